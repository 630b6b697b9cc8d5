"""A study written from a folder of images and masks."""
