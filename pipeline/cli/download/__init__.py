"""Data sets of the papers: where they are published, and laying out what the user fetched as the studies want it."""
