"""Generators; the file name is the method name in params.yaml (generators.*.method)."""
