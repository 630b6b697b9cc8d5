"""Stage segment: train one segmenter on every training set with every seed."""
