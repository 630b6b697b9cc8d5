"""Readers of data layouts; the file name is the name in params.yaml (data.reader)."""
