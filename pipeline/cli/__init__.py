"""The command `twinsynth`: a module per verb, with `add(subparsers)` (light) and `run(arguments)` (loads its needs)."""
