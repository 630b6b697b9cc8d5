"""Segmenters; the file name is the method name in params.yaml (segmenters.*.method)."""
