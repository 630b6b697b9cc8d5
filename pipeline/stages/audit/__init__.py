"""Stage audit: search for copies of training images."""
