"""Older entry points of the verbs."""
