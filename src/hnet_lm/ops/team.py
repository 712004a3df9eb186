"""Threads that stay awake, to share the short loops of decoding.

Waking a thread takes tens of microseconds, as long as a product of one position takes altogether. So the helpers of a
team look for work themselves, again and again, and go to sleep when there has been none for about a millisecond.

Work is a `job`, a compiled function of a range of items, and is done in turns of some items each: whoever is free takes
the next turn. The caller takes turns too, all of them where no helper is awake, so nobody waits for a helper that does
not come. A team has one job at a time; a caller that finds it taken works alone.
"""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from hnet_lm.ops.atomics import add, call, give_way, load, pause, store, swap
from hnet_lm.ops.native import CACHE_LINE, MATHS, compiled, inlined

MOST = 8
"""Threads of a team."""
PATIENCE = 50_000
"""Looks for work before a helper sleeps."""
LOOKS_AT_ONCE = 64
"""After so many another thread may run, if one waits for this processor: a few microseconds."""

OWNED, TICKET, DONE, AWAKE, JOB, ARGUMENTS, NUM_ITEMS, ITEMS_A_TURN = (8 * i for i in (0, 8, 16, 24, 32, 33, 34, 35))
"""Where on a team's board each number stands, in bytes; those that several threads change have a cache line each."""
BOARD_SIZE = 40
BITS = 20
"""A ticket is the number of the job, how many turns it has, and how many are taken, of so many bits each."""
MASK = (1 << BITS) - 1

_jobs: list[Any] = []
"""Kept, as only their addresses are known to others."""


def job(function: Callable[..., None]) -> int:
    """Compile a function `(arguments, first, last)` for `share`; where it begins. See `numbers`."""
    compiled_job = numba.cfunc(types.void(types.int64, types.int64, types.int64), cache=True, **MATHS)(function)
    _jobs.append(compiled_job)
    assert compiled_job.address is not None
    return compiled_job.address


@intrinsic
@no_type_check  # of Python: numba has types of its own
def _on_stack(_, arguments):
    """Where they stand one behind the other until the loop ends."""

    def keep(context, builder, signature, given):
        number = ir.IntType(64)
        with builder.goto_entry_block():
            memory = builder.alloca(number, len(arguments))
        for i, kind in enumerate(arguments):
            value = context.cast(builder, builder.extract_value(given[0], i), kind, types.int64)
            builder.store(value, builder.gep(memory, [number(i)]))
        return builder.ptrtoint(memory, number)

    return types.int64(arguments), keep


@intrinsic(prefer_literal=True)
@no_type_check
def numbers(_, arguments, count):
    """The arguments of a job, as they were given to `share`."""
    kind = types.UniTuple(types.int64, count.literal_value)

    def read(context, builder, signature, given):
        start = builder.inttoptr(given[0], ir.IntType(64).as_pointer())
        places = (builder.gep(start, [ir.IntType(64)(i)]) for i in range(kind.count))
        return context.make_tuple(builder, kind, [builder.load(place) for place in places])

    return kind(arguments, count), read


def team() -> int:
    """For `share`, with helpers awake: as many as torch has threads besides this one. 0: there are none."""
    num_helpers = min(torch.get_num_threads(), MOST) - 1
    if num_helpers < 1:
        return 0
    board, address = _board()
    for _ in range(num_helpers - int(board[AWAKE // 8])):
        _arrive(address)
        _pool().submit(_help, address)
    return address


@no_type_check
@compiled
def share(team, job, arguments, num_items, items_a_turn):
    """Do a job on all items, together with whoever is awake; `arguments` are some whole numbers."""
    place = _on_stack(arguments)
    num_turns = (num_items + items_a_turn - 1) // items_a_turn
    if team == 0 or num_turns < 2 or num_turns > MASK or load(team + AWAKE) == 0 or not swap(team + OWNED, 0, 1):
        call(job, place, 0, num_items)
        return
    store(team + JOB, job)
    store(team + ARGUMENTS, place)
    store(team + NUM_ITEMS, num_items)
    store(team + ITEMS_A_TURN, items_a_turn)
    store(team + DONE, 0)
    number = ((load(team + TICKET) >> (2 * BITS)) + 1) & MASK
    store(team + TICKET, (number << (2 * BITS)) + (num_turns << BITS))
    _take_turns(team)
    looks = 0
    while load(team + DONE) < num_turns:
        looks = _wait(looks)
    store(team + OWNED, 0)


@no_type_check
@compiled
def _take_turns(team):
    """Until all are taken. A job stays on the board until each turn that was taken is done."""
    while True:
        ticket = load(team + TICKET)
        turn = ticket & MASK
        if turn >= (ticket >> BITS) & MASK:
            return
        if swap(team + TICKET, ticket, ticket + 1):
            items = load(team + ITEMS_A_TURN)
            last = min((turn + 1) * items, load(team + NUM_ITEMS))
            call(load(team + JOB), load(team + ARGUMENTS), turn * items, last)
            add(team + DONE, 1)


@no_type_check
@inlined
def _wait(looks):
    """Until the next look. Who waits for long may be keeping the processor from the one that is waited for."""
    pause()
    if looks % LOOKS_AT_ONCE == LOOKS_AT_ONCE - 1:
        give_way()
    return looks + 1


@no_type_check
@compiled
def _help(team):
    looks = 0
    while looks < PATIENCE:
        ticket = load(team + TICKET)
        if ticket & MASK < (ticket >> BITS) & MASK:
            _take_turns(team)
            looks = 0
        looks = _wait(looks)
    add(team + AWAKE, -1)


@no_type_check
@compiled
def _arrive(team):
    add(team + AWAKE, 1)


@cache
def _board() -> tuple[NDArray[np.int64], int]:
    """Of the team of this process, and its address."""
    memory = np.zeros(BOARD_SIZE + CACHE_LINE // 8, np.int64)
    start = -memory.ctypes.data % CACHE_LINE // 8
    board = memory[start : start + BOARD_SIZE]
    return board, board.ctypes.data


@cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(MOST - 1, thread_name_prefix="hnet-lm-team")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_board.cache_clear)  # threads do not come along
    os.register_at_fork(after_in_child=_pool.cache_clear)
