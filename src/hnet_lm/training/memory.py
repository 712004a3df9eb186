"""Memory of a long run: what a step frees is kept for the next, what a validation frees is given back.

By default the C library gives large buffers back to the system as soon as they are freed, and gets every page of the
next one anew, zeroed. A step frees and takes several gigabytes, which cost a quarter of its CPU time. A validation
takes buffers of other sizes, up to several times those of a step, which no step would use again. glibc alone has the
switches; elsewhere nothing is done.
"""

import ctypes
import sys
from typing import Any

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX = -1, -2, -4  # malloc.h
NEVER = -1


def keep_freed_memory() -> None:
    """For the rest of this process."""
    mallopt = _function_of_glibc("mallopt")
    if mallopt is not None:
        mallopt(MMAP_MAX, 0)  # nothing is mapped by itself, which would be unmapped when freed
        mallopt(TRIM_THRESHOLD, NEVER)
        mallopt(TOP_PAD, 64 << 20)


def give_back_freed_memory() -> None:
    """All that is free at this moment, also where `keep_freed_memory` was called."""
    trim = _function_of_glibc("malloc_trim")
    if trim is not None:
        trim(0)


def _function_of_glibc(name: str) -> Any:
    return getattr(ctypes.CDLL(None), name, None) if sys.platform == "linux" else None
