"""Metrics of synthetic image sets; the file name is the name in params.yaml (score.metrics)."""
