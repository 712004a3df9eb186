"""Memory of a long run: what a step frees is kept for the next.

By default the C library gives large buffers back to the system as soon as they are freed, and gets every page of the
next one anew, zeroed. A step frees and takes several gigabytes, which cost a quarter of its CPU time. glibc alone has
the switches; elsewhere nothing is done.
"""

import ctypes
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h
NEVER = -1


def keep_freed_memory() -> None:
    """For the rest of this process."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)  # nothing is mapped by itself, which would be unmapped when freed
        mallopt(TRIM_THRESHOLD, NEVER)
        mallopt(TOP_PAD, 64 << 20)
