"""Stage mix: assemble one training set."""
