"""Stage judge: train the segmenter of real images that measures mask faithfulness."""
