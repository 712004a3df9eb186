"""The compiled loops of the scan: a range of heads, one after the other, over piece after piece of the sequences.

A piece is short enough for the caches to hold what all heads read of it and the states between. Where a sequence has
several pieces, each continues from the end of the one before: `owner` is the sequence of each piece, and `starts` the
states at the start of the pieces that are not their sequence's first.

Within a piece, positions are taken `TILE` at a time: what they need is read into the loop's own stack, and then block
after block of the state passes through all of them while it stays in registers. A block is `ROWS` rows of one vector.

x, y, B, C and their gradients are passed as `memory.rows`, one row per position; the heads of x and y are side by side.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.jit import compiled, inlined
from hnet_lm.ops.compiled.memory import address_of, array_at, fill, row_slice, scratch
from hnet_lm.ops.compiled.vectors import load_vector, scaled, scaled_add, store_vector

ROWS = 4
"""Rows of a block of the state."""
TILE = 16
"""Positions at a time. After each tile the product of state and gradient is computed afresh instead of updated."""


class Loops(NamedTuple):
    """`(worker, first head, last head, ...)`; the last arguments are written to."""

    forward: Callable[..., None]
    to_inputs: Callable[..., None]
    """Gradients to x, dt (without its part in the decay), D and the initial state. Lanes run over x.

    The argument for the gradient to the initial state enters holding that to the final one, in `to_projections` too.
    """
    to_projections: Callable[..., None]
    """Gradients to B and C (each worker's part) and to the logarithm of the decay. Lanes run over B and C."""


@no_type_check  # of Python: numba has types of its own
@inlined
def _scan(num, num_lanes, state, decay, rows, lanes, probe, total):
    """state = decay_t state + rows_t lanes_t^T; total_t += state^T probe_t, for `num` positions.

    The state is (groups of lanes, rows, lanes) with the first two axes flattened.
    """
    one, num_rows = state.dtype.type(1), rows.shape[1]
    num_groups = state.shape[0] // num_rows
    vectors = array_at(address_of(lanes), one, (len(lanes) * num_groups, num_lanes))
    totals = array_at(address_of(total), one, (len(lanes) * num_groups, num_lanes))
    for group in range(num_groups):
        for i in range(0, num_rows, ROWS):
            block = group * num_rows + i
            a, b = load_vector(state[block], num_lanes), load_vector(state[block + 1], num_lanes)
            c, d = load_vector(state[block + 2], num_lanes), load_vector(state[block + 3], num_lanes)
            for t in range(num):
                lane = load_vector(vectors[t * num_groups + group], num_lanes)
                new_total = load_vector(totals[t * num_groups + group], num_lanes)
                a = scaled_add(scaled(decay[t], a), rows[t, i], lane)
                b = scaled_add(scaled(decay[t], b), rows[t, i + 1], lane)
                c = scaled_add(scaled(decay[t], c), rows[t, i + 2], lane)
                d = scaled_add(scaled(decay[t], d), rows[t, i + 3], lane)
                new_total = scaled_add(new_total, probe[t, i], a)
                new_total = scaled_add(new_total, probe[t, i + 1], b)
                new_total = scaled_add(new_total, probe[t, i + 2], c)
                new_total = scaled_add(new_total, probe[t, i + 3], d)
                store_vector(new_total, totals[t * num_groups + group])
            store_vector(a, state[block])
            store_vector(b, state[block + 1])
            store_vector(c, state[block + 2])
            store_vector(d, state[block + 3])


@no_type_check
@inlined
def _read(source, row, column, length, factor, to):
    """Numbers of a row, times a factor."""
    numbers = row_slice(source, row, column, length)
    for j in range(length):
        to[j] = factor * widened(numbers[j])


@no_type_check
@inlined
def _write(numbers, to, row, column, length):
    target = row_slice(to, row, column, length)
    for j in range(length):
        target[j] = narrowed(numbers[j], target)


@no_type_check
@inlined
def _dot(a, b, length):
    total = a.dtype.type(0)
    for j in range(length):
        total += a[j] * b[j]
    return total


@no_type_check
@cache
def loops(num_states: int, head_dim: int, num_lanes: int) -> Loops:
    """Compiled for the sizes of the state and of a vector."""
    rows_of_states, rows_of_x = (size + -size % ROWS for size in (num_states, head_dim))
    lanes_of_states, lanes_of_x = (size + -size % num_lanes for size in (num_states, head_dim))
    size_over_x, size_over_states = rows_of_states * lanes_of_x // num_lanes, rows_of_x * lanes_of_states // num_lanes

    @compiled
    def forward(worker, first, last, x, dt, A, B, C, D, bounds, owner, y, starts, final):
        one = dt.dtype.type(1)
        state, decay = scratch(one, size_over_x, num_lanes), scratch(one, 1, TILE)[0]
        value, total = scratch(one, TILE, lanes_of_x), scratch(one, TILE, lanes_of_x)
        row, probe = scratch(one, TILE, rows_of_states), scratch(one, TILE, rows_of_states)
        for zeroed in (state, value, total, row, probe):
            fill(zeroed, 0)
        for piece in range(len(owner)):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(num_states):
                    for j in range(head_dim):
                        number = final[s, i, head, j]
                        state[j // num_lanes * rows_of_states + i, j % num_lanes] = number
                        if goes_on:
                            starts[piece - s - 1, i, head, j] = number
                for tile in range(start, end, TILE):
                    num = min(TILE, end - tile)
                    for k in range(num):
                        t = tile + k
                        decay[k] = math.exp(dt[t, head] * A[head])
                        _read(x, t, column, head_dim, one, value[k])
                        _read(B, t, 0, num_states, dt[t, head], row[k])
                        _read(C, t, 0, num_states, one, probe[k])
                        for j in range(head_dim):
                            total[k, j] = D[head] * value[k, j]
                    _scan(num, num_lanes, state, decay, row, value, probe, total)
                    for k in range(num):
                        _write(total[k], y, tile + k, column, head_dim)
                for i in range(num_states):
                    for j in range(head_dim):
                        final[s, i, head, j] = state[j // num_lanes * rows_of_states + i, j % num_lanes]

    @compiled
    def to_inputs(worker, first, last, grad_y, x, dt, A, B, C, D, bounds, owner, grad_x, grad_dt, grad_D, grad_initial):
        one = dt.dtype.type(1)
        grad, decay = scratch(one, size_over_x, num_lanes), scratch(one, 1, TILE)[0]
        to_y, total = scratch(one, TILE, lanes_of_x), scratch(one, TILE, lanes_of_x)
        row, probe = scratch(one, TILE, rows_of_states), scratch(one, TILE, rows_of_states)
        value = scratch(one, 1, lanes_of_x)[0]
        for zeroed in (grad, to_y, row, probe):
            fill(zeroed, 0)
        for piece in range(len(owner) - 1, -1, -1):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            for head in range(first, last):
                column, skipped = head * head_dim, one * 0
                for i in range(num_states):
                    for j in range(head_dim):
                        grad[j // num_lanes * rows_of_states + i, j % num_lanes] = grad_initial[s, i, head, j]
                decay_after = one
                for tile in range(end, start, -TILE):
                    num = min(TILE, tile - start)
                    for k in range(num):
                        t = tile - 1 - k
                        decay[k], decay_after = decay_after, math.exp(dt[t, head] * A[head])
                        _read(grad_y, t, column, head_dim, one, to_y[k])
                        _read(C, t, 0, num_states, one, row[k])
                        _read(B, t, 0, num_states, one, probe[k])
                    fill(total, 0)
                    _scan(num, num_lanes, grad, decay, row, to_y, probe, total)
                    for k in range(num):
                        t = tile - 1 - k
                        _read(x, t, column, head_dim, one, value)
                        grad_dt[t, head] = _dot(total[k], value, head_dim)
                        skipped += _dot(to_y[k], value, head_dim)
                        for j in range(head_dim):
                            value[j] = dt[t, head] * total[k, j] + D[head] * to_y[k, j]
                        _write(value, grad_x, t, column, head_dim)
                for i in range(num_states):
                    for j in range(head_dim):
                        number = grad[j // num_lanes * rows_of_states + i, j % num_lanes]
                        grad_initial[s, i, head, j] = decay_after * number
                grad_D[head] += skipped

    @compiled
    def to_projections(
        worker, first, last, grad_y, x, dt, A, B, C, bounds, owner, initial, starts, grad_B, grad_C, grad_log_decay,
        grad_initial,
    ):  # fmt: skip
        one = dt.dtype.type(1)
        longest = 0
        for piece in range(len(owner)):
            longest = max(longest, bounds[piece + 1] - bounds[piece])
        states = np.empty(((longest + TILE - 1) // TILE, size_over_states, num_lanes), dt.dtype)
        gained = np.empty(longest, np.float64)
        state, decay = scratch(one, size_over_states, num_lanes), scratch(one, 1, TILE)[0]
        lane, total = scratch(one, TILE, lanes_of_states), scratch(one, TILE, lanes_of_states)
        other = scratch(one, 1, lanes_of_states)[0]
        inputs, to_y = scratch(one, TILE, rows_of_x), scratch(one, TILE, rows_of_x)
        for zeroed in (state, lane, inputs, to_y):
            fill(zeroed, 0)
        nothing = np.finfo(dt.dtype).eps ** 2
        for piece in range(len(owner) - 1, -1, -1):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(head_dim):
                    for j in range(num_states):
                        number = starts[piece - s - 1, j, head, i] if goes_on else initial[s, j, head, i]
                        state[j // num_lanes * rows_of_x + i, j % num_lanes] = number
                for tile in range(start, end, TILE):
                    num = min(TILE, end - tile)
                    for k in range(num):
                        t = tile + k
                        decay[k] = math.exp(dt[t, head] * A[head])
                        _read(x, t, column, head_dim, dt[t, head], inputs[k])
                        _read(grad_y, t, column, head_dim, one, to_y[k])
                        _read(B, t, 0, num_states, one, lane[k])
                    fill(total, 0)
                    _scan(num, num_lanes, state, decay, inputs, lane, to_y, total)
                    for k in range(num):
                        _read(C, tile + k, 0, num_states, one, other)
                        gained[tile + k - start] = _dot(total[k], other, num_states)
                        for j in range(num_states):
                            grad_C[worker, tile + k, j] += total[k, j]
                    _copy(state, states[(tile - start) // TILE])

                grad = state  # its memory is free now
                for i in range(head_dim):
                    for j in range(num_states):
                        grad[j // num_lanes * rows_of_x + i, j % num_lanes] = grad_initial[s, j, head, i]
                decay_after = one
                for tile in range(start + (end - start - 1) // TILE * TILE, start - 1, -TILE):
                    num = min(TILE, end - tile)
                    # The product of the last position's gradient with the state there: what its decay multiplies later
                    to_decay = decay_after * _product(grad, states[(tile - start) // TILE])
                    for k in range(num):
                        t = tile + num - 1 - k
                        decay[k], decay_after = decay_after, math.exp(dt[t, head] * A[head])
                        _read(x, t, column, head_dim, dt[t, head], inputs[k])
                        _read(grad_y, t, column, head_dim, one, to_y[k])
                        _read(C, t, 0, num_states, one, lane[k])
                    fill(total, 0)
                    _scan(num, num_lanes, grad, decay, to_y, lane, inputs, total)
                    for k in range(num):
                        t = tile + num - 1 - k
                        _read(B, t, 0, num_states, one, other)
                        loss = _dot(total[k], other, num_states)
                        for j in range(num_states):
                            grad_B[worker, t, j] += total[k, j]
                        is_kept = math.exp(dt[t, head] * A[head]) > nothing
                        to_decay = to_decay + gained[t - start] - loss if is_kept else 0.0
                        grad_log_decay[t, head] = to_decay
                if goes_on:
                    for i in range(head_dim):
                        for j in range(num_states):
                            number = grad[j // num_lanes * rows_of_x + i, j % num_lanes]
                            grad_initial[s, j, head, i] = decay_after * number

    return Loops(forward, to_inputs, to_projections)


@no_type_check
@inlined
def _copy(source, to):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            to[i, j] = source[i, j]


@no_type_check
@inlined
def _product(a, b):
    """The sum of a * b, in float64."""
    total = 0.0
    for i in range(a.shape[0]):
        for j in range(a.shape[1]):
            total += a[i, j] * b[i, j]
    return total
