"""The plug-ins: one folder per role, one file per method."""
