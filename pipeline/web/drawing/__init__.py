"""The page of `twinsynth try`: draw a mask, see what a generator makes of it, keep the pair."""
