"""Image sets for other programs; the file name is the format's name in `twinsynth export set FORMAT`."""
