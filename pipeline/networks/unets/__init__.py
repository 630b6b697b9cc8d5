"""U-Nets of the diffusion segmenters."""
