"""Checks of machine and study before anything starts."""
