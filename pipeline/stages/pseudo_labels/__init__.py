"""Stage pseudo_labels: predict masks for the images without masks."""
