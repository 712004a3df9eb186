"""The compiled loops of the scan: a range of heads, one after the other, over piece after piece of the sequences.

A piece is short enough for the caches to hold what all heads read of it and the states between. Where a sequence has
several pieces, each continues from the end of the one before: `owner` is the sequence of each piece, and `starts` the
states at the start of the pieces that are not their sequence's first.

Vectors run over the lanes. Rows are taken four at a time, which is what the registers hold. The inputs of a position
are copied to the loop's own stack, where the compiler knows that nothing aliases them.

x, y, B, C and their gradients are passed as `memory.rows`, one row per position; the heads of x and y are side by side.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.jit import compiled, inlined
from hnet_lm.ops.compiled.memory import fill, row_slice, scratch

ROWS = 4
"""Rows taken at a time."""
SEGMENT = 16
"""Positions after which the product of state and gradient is computed afresh instead of updated."""


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
def _step(state, decay, rows, lanes, probe, total):
    """state = decay state + rows lanes^T; total += state^T probe."""
    for i in range(0, state.shape[0], ROWS):
        for j in range(state.shape[1]):
            new_total = total[0, j]
            for k in range(ROWS):
                new = decay * state[i + k, j] + rows[0, i + k] * lanes[0, j]
                state[i + k, j] = new
                new_total += probe[0, i + k] * new
            total[0, j] = new_total


@no_type_check
@inlined
def _read(source, row, column, length, factor, to):
    """Numbers of a row, times a factor."""
    numbers = row_slice(source, row, column, length)
    for j in range(length):
        to[0, j] = factor * widened(numbers[j])


@no_type_check
@inlined
def _write(numbers, to, row, column, length):
    target = row_slice(to, row, column, length)
    for j in range(length):
        target[j] = narrowed(numbers[0, j], target)


@no_type_check
@inlined
def _dot(a, b):
    total = a.dtype.type(0)
    for j in range(a.shape[1]):
        total += a[0, j] * b[0, j]
    return total


@no_type_check
@cache
def loops(num_states: int, head_dim: int) -> Loops:
    """Compiled for the sizes of the state."""
    rows_of_states, rows_of_x = (size + -size % ROWS for size in (num_states, head_dim))

    @compiled
    def forward(worker, first, last, x, dt, A, B, C, D, bounds, owner, y, starts, final):
        one = dt.dtype.type(1)
        state = scratch(one, rows_of_states, head_dim)
        value, total = scratch(one, 1, head_dim), scratch(one, 1, head_dim)
        row, probe = scratch(one, 1, rows_of_states), scratch(one, 1, rows_of_states)
        fill(state, 0)
        fill(row, 0)
        fill(probe, 0)
        for piece in range(len(owner)):
            s = owner[piece]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(num_states):
                    for j in range(head_dim):
                        state[i, j] = final[s, i, head, j]
                        if goes_on:
                            starts[piece - s - 1, i, head, j] = state[i, j]
                for t in range(bounds[piece], bounds[piece + 1]):
                    _read(x, t, column, head_dim, one, value)
                    _read(B, t, 0, num_states, dt[t, head], row)
                    _read(C, t, 0, num_states, one, probe)
                    for j in range(head_dim):
                        total[0, j] = D[head] * value[0, j]
                    _step(state, math.exp(dt[t, head] * A[head]), row, value, probe, total)
                    _write(total, y, t, column, head_dim)
                for i in range(num_states):
                    for j in range(head_dim):
                        final[s, i, head, j] = state[i, j]

    @compiled
    def to_inputs(worker, first, last, grad_y, x, dt, A, B, C, D, bounds, owner, grad_x, grad_dt, grad_D, grad_initial):
        one = dt.dtype.type(1)
        grad = scratch(one, rows_of_states, head_dim)
        to_y, value, total = scratch(one, 1, head_dim), scratch(one, 1, head_dim), scratch(one, 1, head_dim)
        row, probe = scratch(one, 1, rows_of_states), scratch(one, 1, rows_of_states)
        fill(grad, 0)
        fill(row, 0)
        fill(probe, 0)
        for piece in range(len(owner) - 1, -1, -1):
            s = owner[piece]
            for head in range(first, last):
                column, skipped = head * head_dim, one * 0
                for i in range(num_states):
                    for j in range(head_dim):
                        grad[i, j] = grad_initial[s, i, head, j]
                decay_after = one
                for t in range(bounds[piece + 1] - 1, bounds[piece] - 1, -1):
                    _read(x, t, column, head_dim, one, value)
                    _read(grad_y, t, column, head_dim, one, to_y)
                    _read(C, t, 0, num_states, one, row)
                    _read(B, t, 0, num_states, one, probe)
                    fill(total, 0)
                    _step(grad, decay_after, row, to_y, probe, total)
                    grad_dt[t, head] = _dot(total, value)
                    skipped += _dot(to_y, value)
                    for j in range(head_dim):
                        total[0, j] = dt[t, head] * total[0, j] + D[head] * to_y[0, j]
                    _write(total, grad_x, t, column, head_dim)
                    decay_after = math.exp(dt[t, head] * A[head])
                for i in range(num_states):
                    for j in range(head_dim):
                        grad_initial[s, i, head, j] = decay_after * grad[i, j]
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
        states = np.empty(((longest + SEGMENT - 1) // SEGMENT, rows_of_x, num_states), dt.dtype)
        gained = np.empty(longest, np.float64)
        state = scratch(one, rows_of_x, num_states)
        lane, other, total = scratch(one, 1, num_states), scratch(one, 1, num_states), scratch(one, 1, num_states)
        inputs, to_y = scratch(one, 1, rows_of_x), scratch(one, 1, rows_of_x)
        fill(state, 0)
        fill(inputs, 0)
        fill(to_y, 0)
        nothing = np.finfo(dt.dtype).eps ** 2
        for piece in range(len(owner) - 1, -1, -1):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(head_dim):
                    for j in range(num_states):
                        state[i, j] = starts[piece - s - 1, j, head, i] if goes_on else initial[s, j, head, i]
                for t in range(start, end):
                    _read(x, t, column, head_dim, dt[t, head], inputs)
                    _read(grad_y, t, column, head_dim, one, to_y)
                    _read(B, t, 0, num_states, one, lane)
                    _read(C, t, 0, num_states, one, other)
                    fill(total, 0)
                    _step(state, math.exp(dt[t, head] * A[head]), inputs, lane, to_y, total)
                    gained[t - start] = _dot(total, other)
                    for j in range(num_states):
                        grad_C[worker, t, j] += total[0, j]
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        for i in range(rows_of_x):
                            for j in range(num_states):
                                states[(t - start) // SEGMENT, i, j] = state[i, j]

                grad = state  # its memory is free now
                for i in range(head_dim):
                    for j in range(num_states):
                        grad[i, j] = grad_initial[s, j, head, i]
                decay_after = one
                to_decay = 0.0  # the product of this position's gradient with the decayed state before it
                for t in range(end - 1, start - 1, -1):
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        product = 0.0
                        for i in range(rows_of_x):
                            for j in range(num_states):
                                product += grad[i, j] * states[(t - start) // SEGMENT, i, j]
                        to_decay = decay_after * product
                    _read(x, t, column, head_dim, dt[t, head], inputs)
                    _read(grad_y, t, column, head_dim, one, to_y)
                    _read(C, t, 0, num_states, one, lane)
                    _read(B, t, 0, num_states, one, other)
                    fill(total, 0)
                    _step(grad, decay_after, to_y, lane, inputs, total)
                    loss = _dot(total, other)
                    for j in range(num_states):
                        grad_B[worker, t, j] += total[0, j]
                    decay_after = math.exp(dt[t, head] * A[head])
                    to_decay = to_decay + gained[t - start] - loss if decay_after > nothing else 0.0
                    grad_log_decay[t, head] = to_decay
                if goes_on:
                    for i in range(head_dim):
                        for j in range(num_states):
                            grad_initial[s, j, head, i] = decay_after * grad[i, j]

    return Loops(forward, to_inputs, to_projections)
