"""Stable Diffusion 1.5 and small bases of its shape: loading, LDM checkpoints, control inputs, acceleration."""
