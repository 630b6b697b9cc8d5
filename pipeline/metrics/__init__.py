"""Metrics and statistics as pure functions of arrays."""
