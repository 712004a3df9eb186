"""The compiled loops of the scan: a range of heads, one after the other, each over all sequences.

Vectors run over the lanes. Rows are taken four at a time, as many as registers hold. What a position needs is copied
to the loop's own stack, where the compiler knows that nothing overlaps.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.native import compiled, fill, inlined, scratch

ROWS = 4
"""Rows taken at a time."""
SEGMENT = 16
"""Positions after which the product of state and gradient is taken anew, and not carried on from the one before."""


class Loops(NamedTuple):
    """`(worker, first head, last head, ...)`; the last arguments are written to."""

    forward: Callable[..., None]
    to_inputs: Callable[..., None]
    """The gradients to x, dt (but for its part in the decay), D and the initial state. Lanes run over x."""
    to_projections: Callable[..., None]
    """The gradients to B, to C (a worker's share) and to the logarithm of the decay. Lanes run over B and C."""


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
@cache
def loops(num_rows: int, num_lanes: int) -> Loops:
    """Compiled for the sizes of the state, of which the rows are a multiple of `ROWS`."""

    @compiled
    def forward(worker, first, last, x, dt, A, B, C, D, bounds, initial, y, final):
        one, num_states = y.dtype.type(1), B.shape[1]
        state, lane, total = scratch(one, num_rows, num_lanes), scratch(one, 1, num_lanes), scratch(one, 1, num_lanes)
        row, probe = scratch(one, 1, num_rows), scratch(one, 1, num_rows)
        fill(state, 0)
        fill(row, 0)
        fill(probe, 0)
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                for i in range(num_states):
                    for j in range(num_lanes):
                        state[i, j] = initial[s, i, head, j]
                for t in range(bounds[s], bounds[s + 1]):
                    for j in range(num_lanes):
                        lane[0, j], total[0, j] = dt[t, head] * x[t, head, j], D[head] * x[t, head, j]
                    for i in range(num_states):
                        row[0, i], probe[0, i] = B[t, i], C[t, i]
                    _step(state, math.exp(dt[t, head] * A[head]), row, lane, probe, total)
                    for j in range(num_lanes):
                        y[t, head, j] = total[0, j]
                for i in range(num_states):
                    for j in range(num_lanes):
                        final[s, i, head, j] = state[i, j]

    @compiled
    def to_inputs(
        worker, first, last, grad_y, grad_final, x, dt, A, B, C, D, bounds, grad_x, grad_dt, grad_D, grad_initial
    ):
        one, num_states = grad_x.dtype.type(1), B.shape[1]
        grad, lane, total = scratch(one, num_rows, num_lanes), scratch(one, 1, num_lanes), scratch(one, 1, num_lanes)
        row, probe, value = scratch(one, 1, num_rows), scratch(one, 1, num_rows), scratch(one, 1, num_lanes)
        fill(grad, 0)
        fill(row, 0)
        fill(probe, 0)
        for head in range(first, last):
            skipped = one * 0
            for s in range(len(bounds) - 1):
                for i in range(num_states):
                    for j in range(num_lanes):
                        grad[i, j] = grad_final[s, i, head, j]
                decay_after = one
                for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
                    for j in range(num_lanes):
                        lane[0, j], total[0, j], value[0, j] = grad_y[t, head, j], 0, x[t, head, j]
                    for i in range(num_states):
                        row[0, i], probe[0, i] = C[t, i], B[t, i]
                    _step(grad, decay_after, row, lane, probe, total)
                    to_dt = one * 0
                    for j in range(num_lanes):
                        to_dt += total[0, j] * value[0, j]
                        skipped += lane[0, j] * value[0, j]
                        total[0, j] = dt[t, head] * total[0, j] + D[head] * lane[0, j]
                    for j in range(num_lanes):
                        grad_x[t, head, j] = total[0, j]
                    grad_dt[t, head] = to_dt
                    decay_after = math.exp(dt[t, head] * A[head])
                for i in range(num_states):
                    for j in range(num_lanes):
                        grad_initial[s, i, head, j] = decay_after * grad[i, j]
            grad_D[head] = skipped

    @compiled
    def to_projections(
        worker, first, last, grad_y, grad_final, x, dt, A, B, C, bounds, initial, grad_B, grad_C, grad_log_decay
    ):
        one, num_kept = grad_B.dtype.type(1), x.shape[2]
        longest = 0
        for s in range(len(bounds) - 1):
            longest = max(longest, bounds[s + 1] - bounds[s])
        states = np.empty(((longest + SEGMENT - 1) // SEGMENT, num_rows, num_lanes), grad_B.dtype)
        gained = np.empty(longest, np.float64)
        state, lane, total = scratch(one, num_rows, num_lanes), scratch(one, 1, num_lanes), scratch(one, 1, num_lanes)
        row, probe, other = scratch(one, 1, num_rows), scratch(one, 1, num_rows), scratch(one, 1, num_lanes)
        fill(state, 0)
        fill(row, 0)
        fill(probe, 0)
        nothing = np.finfo(grad_B.dtype).eps ** 2
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                start, end = bounds[s], bounds[s + 1]
                for i in range(num_kept):
                    for j in range(num_lanes):
                        state[i, j] = initial[s, j, head, i]
                for t in range(start, end):
                    for i in range(num_kept):
                        row[0, i], probe[0, i] = dt[t, head] * x[t, head, i], grad_y[t, head, i]
                    for j in range(num_lanes):
                        lane[0, j], other[0, j], total[0, j] = B[t, j], C[t, j], 0
                    _step(state, math.exp(dt[t, head] * A[head]), row, lane, probe, total)
                    gain = 0.0
                    for j in range(num_lanes):
                        gain += total[0, j] * other[0, j]
                    for j in range(num_lanes):
                        grad_C[worker, t, j] += total[0, j]
                    gained[t - start] = gain
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        for i in range(num_rows):
                            for j in range(num_lanes):
                                states[(t - start) // SEGMENT, i, j] = state[i, j]

                grad = state  # whose buffer is free now
                for i in range(num_kept):
                    for j in range(num_lanes):
                        grad[i, j] = grad_final[s, j, head, i]
                decay_after = one
                to_decay = 0.0  # the product of this position's gradient and the state before it, as it decayed
                for t in range(end - 1, start - 1, -1):
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        product = 0.0
                        for i in range(num_rows):
                            for j in range(num_lanes):
                                product += grad[i, j] * states[(t - start) // SEGMENT, i, j]
                        to_decay = decay_after * product
                    for i in range(num_kept):
                        row[0, i], probe[0, i] = grad_y[t, head, i], dt[t, head] * x[t, head, i]
                    for j in range(num_lanes):
                        lane[0, j], other[0, j], total[0, j] = C[t, j], B[t, j], 0
                    _step(grad, decay_after, row, lane, probe, total)
                    loss = 0.0
                    for j in range(num_lanes):
                        loss += total[0, j] * other[0, j]
                    for j in range(num_lanes):
                        grad_B[worker, t, j] += total[0, j]
                    decay_after = math.exp(dt[t, head] * A[head])
                    to_decay = to_decay + gained[t - start] - loss if decay_after > nothing else 0.0
                    grad_log_decay[t, head] = to_decay

    return Loops(forward, to_inputs, to_projections)
