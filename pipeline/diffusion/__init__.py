"""Diffusion: noise schedules and their closed forms."""
