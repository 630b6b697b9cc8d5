"""Distances between image sets, and copies among them, from feature rows."""
