"""Stage prepare: read, check and split the real pairs."""
