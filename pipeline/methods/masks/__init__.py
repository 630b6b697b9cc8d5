"""Where the masks of synthetic images come from; the file name is the name in params.yaml (generators.*.masks)."""
