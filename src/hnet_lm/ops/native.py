"""How compiled loops are made and run: numba for the code, one range of independent work a thread.

A backend called `numba` is written as plain loops over contiguous arrays; numba compiles them at first use for each
type, and keeps the result on disk. Loops run without the interpreter's lock. Threads are torch's number; work is split
only where heads or channels are independent, so results do not depend on it but for the order of sums over heads.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numba
import torch
from numpy.typing import NDArray
from torch import Tensor

MIN_WORK_A_THREAD = 1 << 16
"""Multiplications below which waking another thread costs more than it saves (tens of microseconds)."""

MATHS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""Sums may be reordered, which vectors need; infinities and NaN keep their meaning."""

compiled = numba.njit(nogil=True, cache=True, **MATHS)
inlined = numba.njit(inline="always", **MATHS)
"""Part of the loop that calls it, as if it were written there."""


def array(x: Tensor) -> NDArray[Any]:
    """The same memory as an array without gaps (a copy where there are some)."""
    if x.requires_grad:
        x = x.detach()
    return x.contiguous().numpy()


def weight_array(x: Tensor) -> NDArray[Any]:
    """A copy. FSDP takes the memory of a weight away after its use, and cannot where an array lies on it."""
    return x.detach().clone(memory_format=torch.contiguous_format).numpy()


def ranges(num_items: int, work_an_item: int) -> list[tuple[int, int]]:
    """One range of items a thread; a single one where the work is small."""
    num_threads = max(1, min(num_items, torch.get_num_threads(), num_items * work_an_item // MIN_WORK_A_THREAD))
    if num_threads == 1:
        return [(0, num_items)]
    ends = [num_items * i // num_threads for i in range(num_threads + 1)]
    return list(pairwise(ends))


def run(function: Callable[..., None], parts: list[tuple[int, int]], *arguments: Any) -> None:
    """`function(worker, first, end, *arguments)` for every range, side by side; returns when all are done."""
    if len(parts) == 1:
        return function(0, *parts[0], *arguments)
    others = [
        _pool(len(parts) - 1).submit(function, worker, *part, *arguments)
        for worker, part in enumerate(parts[1:], start=1)
    ]
    function(0, *parts[0], *arguments)
    for other in others:
        other.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="hnet-lm-ops")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not come along
