"""Ranges of independent work, one per thread.

Threads are as many as torch's. Work is split only where heads, channels or positions are independent, so results do not
depend on the number of threads but for the order of a few sums over workers.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import torch

MIN_WORK_PER_THREAD = 1 << 19
"""Multiplications below which waking another thread costs more than it saves (tens of microseconds)."""


def split_range(num_items: int, work_per_item: int) -> list[tuple[int, int]]:
    """One range of items per thread; a single one where the work is small."""
    work = num_items * work_per_item
    if work < 2 * MIN_WORK_PER_THREAD:
        return [(0, num_items)]
    num_threads = max(1, min(num_items, torch.get_num_threads(), work // MIN_WORK_PER_THREAD))
    ends = [num_items * i // num_threads for i in range(num_threads + 1)]
    return list(pairwise(ends))


def run_ranges(function: Callable[..., None], ranges: list[tuple[int, int]], *arguments: Any) -> None:
    """`function(worker, first, last, *arguments)` for every range, side by side; returns when all are done."""
    if len(ranges) == 1:
        return function(0, *ranges[0], *arguments)
    others = [
        _pool(len(ranges) - 1).submit(function, worker, *part, *arguments)
        for worker, part in enumerate(ranges[1:], start=1)
    ]
    function(0, *ranges[0], *arguments)
    for other in others:
        other.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="hnet-lm-ops")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork
