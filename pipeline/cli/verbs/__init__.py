"""The verbs of twinsynth, one file each."""
