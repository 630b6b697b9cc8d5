"""Agreement of label maps: overlap, boundaries, volumes, several raters."""
