"""What every room builds on: errors, files, locks, paths, parameters, plug-ins, processes, random streams."""
