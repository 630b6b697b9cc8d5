"""Stage snapshots: score a generator over its training."""
