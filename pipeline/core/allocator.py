"""The C library's memory allocator, kept from returning memory that the next training step needs again."""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3), from malloc.h
LARGEST_KEPT = 1 << 30  # bytes; larger blocks go back to the system as soon as they are freed
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # with which a user sets them


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB for the next allocation; return whether it does.

    By default, glibc returns blocks of some megabytes to the system when they are freed. On a CPU, each step of a
    training then waits for thousands of page faults, because the maps of the last step have to be mapped again. No
    result changes. Without glibc, or where the user has set its thresholds, nothing is done.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    return all(mallopt(name, LARGEST_KEPT) == 1 for name in (MMAP_THRESHOLD, TRIM_THRESHOLD))
