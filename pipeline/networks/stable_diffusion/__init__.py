"""Stable Diffusion 1, 2 and XL and small bases of their shape: loading, LDM checkpoints, control, acceleration."""
