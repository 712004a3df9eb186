"""Freed memory of a process, given back to the system; no switch of the allocator is changed.

A validation takes buffers of other sizes, up to several times those of a step, which no step would use again. glibc
alone can give them back when asked; elsewhere nothing is done.
"""

import ctypes
import sys


def give_back_freed_memory() -> None:
    """All that is free at this moment, also where `memory.keep_freed_memory` was called."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
