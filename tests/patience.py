"""How long a test waits before it calls a process hung. Nothing is measured by it: a busy machine may take its time."""

HUNG = 900.0  # seconds, for what takes seconds on an idle machine
HUNG_LONG = 4 * 3600.0  # for what takes minutes there
