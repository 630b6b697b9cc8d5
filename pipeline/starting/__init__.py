"""Starting a study of one's own images: which layout they have, what is in them, and a study file with sane values."""
