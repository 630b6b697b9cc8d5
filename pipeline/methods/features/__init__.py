"""Feature extractors; the file name is the name in params.yaml (score.extractors)."""
