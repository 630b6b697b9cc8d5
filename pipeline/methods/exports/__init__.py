"""Image sets for other programs; the file name is the format's name in `python -m pipeline.methods.exports FORMAT`."""
