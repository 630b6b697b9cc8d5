"""Conditionings: what a ControlNet sees of a sample; the file name is the name in params.yaml."""
