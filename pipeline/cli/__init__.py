"""The command twinsynth."""
