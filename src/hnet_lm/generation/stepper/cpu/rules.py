"""The chunkers that learn nothing, one position at a time: p is 1 where their rule says so, and 0 elsewhere."""

from functools import cache
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from hnet_lm.generation.stepper.cpu.atomics import load, store
from hnet_lm.generation.stepper.cpu.program import Program, Rows, Shape, checked, float_bits, float_of
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunker
from hnet_lm.model.dynamic_chunking.chunkers.random import INCREMENT, MULTIPLIERS, SHIFTS, RandomChunker
from hnet_lm.model.dynamic_chunking.chunkers.space import NOTHING, SpaceChunker, SpaceState
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, row_slice
from hnet_lm.state import State

FIRST_SHIFT, SECOND_SHIFT, LAST_SHIFT = SHIFTS
FIRST_MULTIPLIER, SECOND_MULTIPLIER = MULTIPLIERS


def add_rule(program: Program, rows: Rows, name: str, rule: FixedChunker, state: State, ids: Tensor) -> None:
    """p of each row; `ids` are those of the outermost stage, where `SpaceChunker` is."""
    dtype, slots, p, task_shape = program.dtype, rows.slots, rows.boundary_prob, Shape(items_per_row=1, work=16)
    if isinstance(rule, SpaceChunker) and isinstance(state, SpaceState):
        last_ids = checked(f"last_id of {name}", state.last_id, (program.max_rows,), torch.int64)
        program.add(space_task(dtype), rows, (slots, last_ids, p, rule.bos_id, ids), task_shape)
        return
    assert isinstance(state, SeenState)
    num_seen = checked(f"num_seen of {name}", state.num_seen, (program.max_rows,), torch.int64)
    if isinstance(rule, PoolChunker):
        program.add(pool_task(dtype), rows, (slots, num_seen, p, rule.stride), task_shape)
    else:
        assert isinstance(rule, RandomChunker)
        program.add(random_task(dtype), rows, (slots, num_seen, p, rule.seed, float_bits(rule.rate)), task_shape)


@cache
def pool_task(dtype: torch.dtype) -> int:
    """Arguments: (slots, num_seen, p, stride). Items are rows."""
    one = ONE[dtype]

    @no_type_check  # of Python: numba has types of its own
    def pool(arguments, first, last):
        slots, num_seen, p, stride = arguments_at(arguments, 4)
        for row in range(first, last):
            seen = num_seen + 8 * load(slots + 8 * row)
            position = load(seen)
            store(seen, position + 1)
            row_slice((one, p, 1), row, 0, 1)[0] = position % stride == 0

    return task(pool)


@cache
def random_task(dtype: torch.dtype) -> int:
    """Arguments: (slots, num_seen, p, seed, rate as float64 bits). Items are rows."""
    one = ONE[dtype]

    @no_type_check
    def draw(arguments, first, last):
        slots, num_seen, p, seed, rate = arguments_at(arguments, 5)
        for row in range(first, last):
            seen = num_seen + 8 * load(slots + 8 * row)
            position = load(seen)
            store(seen, position + 1)
            is_drawn = _uniform(seed, position) < float_of(rate)
            row_slice((one, p, 1), row, 0, 1)[0] = position == 0 or is_drawn

    return task(draw)


@no_type_check
@compiled
def _uniform(seed, index):
    return np.float64(_shifted(_mix(_mix((seed + 1) * INCREMENT) + index * INCREMENT), 11)) / np.float64(1 << 53)


@no_type_check
@compiled
def _mix(x):
    x = (x ^ _shifted(x, FIRST_SHIFT)) * FIRST_MULTIPLIER
    x = (x ^ _shifted(x, SECOND_SHIFT)) * SECOND_MULTIPLIER
    return x ^ _shifted(x, LAST_SHIFT)


@no_type_check
@compiled
def _shifted(x, by):
    """Right shift that fills with zeros."""
    return (x >> by) & ((1 << (64 - by)) - 1)


@cache
def space_task(dtype: torch.dtype) -> int:
    """Arguments: (slots, last ids (s,), p, BOS, ids). Items are rows."""
    one = ONE[dtype]

    @no_type_check
    def space(arguments, first, last):
        slots, last_ids, p, bos_id, ids = arguments_at(arguments, 5)
        for row in range(first, last):
            last_id, new = last_ids + 8 * load(slots + 8 * row), load(ids + 8 * row)
            before = load(last_id)
            store(last_id, new)
            starts = before == NOTHING or new == bos_id or (_is_spacelike(new) and not _is_spacelike(before))
            row_slice((one, p, 1), row, 0, 1)[0] = starts

    return task(space)


@no_type_check
@compiled
def _is_spacelike(byte):
    """As `is_spacelike` of the chunker."""
    is_digit, is_continuation = 48 <= byte <= 57, 0x80 <= byte < 0xC0
    return not (is_digit or is_continuation or 65 <= byte <= 90 or 97 <= byte <= 122)
