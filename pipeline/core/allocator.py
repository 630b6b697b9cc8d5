"""The C library's memory allocator, kept from returning memory that the next training step needs again."""

import ctypes
import os

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3  # parameters of mallopt(3), from malloc.h
LARGEST_KEPT = 1 << 30  # bytes; larger blocks go back to the system as soon as they are freed
LARGEST_ALLOWED = 1 << 25  # by versions of glibc before 2.35, which refuse larger thresholds
VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")  # with which a user sets them


def keep_freed_memory() -> bool:
    """Let glibc keep freed blocks of up to 1 GiB for the next allocation; return whether it does.

    By default, glibc returns blocks of some megabytes to the system when they are freed. On a CPU, each step of a
    training then waits for thousands of page faults, because the maps of the last step have to be mapped again. No
    result changes. Versions of glibc before 2.35 keep blocks of up to 32 MiB. Without glibc, or where the user has set
    its thresholds, nothing is done.
    """
    if any(name in os.environ for name in VARIABLES):
        return False
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    allowed = any(mallopt(MMAP_THRESHOLD, largest) == 1 for largest in (LARGEST_KEPT, LARGEST_ALLOWED))
    return allowed and mallopt(TRIM_THRESHOLD, LARGEST_KEPT) == 1
