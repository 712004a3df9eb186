"""The compiled loops of the scan: a range of heads, one after the other, each over all sequences.

Vectors run over the lanes. Rows are taken four at a time, as many as registers hold. Lanes and sums of a position are
copied to buffers of their own, so that the compiler knows that nothing overlaps.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.native import compiled, inlined

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
def _step(state, decay, rows, lanes, probe, total, num_rows, num_lanes):
    """state = decay state + rows lanes^T; total += state^T probe."""
    for i in range(0, num_rows, ROWS):
        for j in range(num_lanes):
            new_total = total[j]
            for k in range(ROWS):
                new = decay * state[i + k, j] + rows[i + k] * lanes[j]
                state[i + k, j] = new
                new_total += probe[i + k] * new
            total[j] = new_total


@no_type_check
@cache
def loops(num_lanes: int) -> Loops:
    """Compiled for a number of lanes, so that the loop over them has no end to test."""

    @compiled
    def forward(worker, first, last, x, dt, A, B, C, D, bounds, initial, y, final):
        num_states = initial.shape[1]
        state = np.zeros((B.shape[1], num_lanes), x.dtype)
        lane, total = np.empty(num_lanes, x.dtype), np.empty(num_lanes, x.dtype)
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                for i in range(num_states):
                    for j in range(num_lanes):
                        state[i, j] = initial[s, i, head, j]
                for t in range(bounds[s], bounds[s + 1]):
                    for j in range(num_lanes):
                        lane[j], total[j] = dt[t, head] * x[t, head, j], D[head] * x[t, head, j]
                    decay = math.exp(dt[t, head] * A[head])
                    _step(state, decay, B[t], lane, C[t], total, B.shape[1], num_lanes)
                    for j in range(num_lanes):
                        y[t, head, j] = total[j]
                for i in range(num_states):
                    for j in range(num_lanes):
                        final[s, i, head, j] = state[i, j]

    @compiled
    def to_inputs(
        worker,
        first,
        last,
        grad_y,
        grad_final,
        x,
        dt,
        A,
        B,
        C,
        D,
        bounds,
        grad_x,
        grad_dt,
        grad_D,
        grad_initial,
    ):
        num_states = grad_final.shape[1]
        grad = np.zeros((B.shape[1], num_lanes), x.dtype)
        lane, total = np.empty(num_lanes, x.dtype), np.empty(num_lanes, x.dtype)
        for head in range(first, last):
            skipped = x.dtype.type(0)
            for s in range(len(bounds) - 1):
                for i in range(num_states):
                    for j in range(num_lanes):
                        grad[i, j] = grad_final[s, i, head, j]
                decay_after = x.dtype.type(1)
                for t in range(bounds[s + 1] - 1, bounds[s] - 1, -1):
                    for j in range(num_lanes):
                        lane[j], total[j] = grad_y[t, head, j], 0
                    _step(grad, decay_after, C[t], lane, B[t], total, B.shape[1], num_lanes)
                    to_dt = x.dtype.type(0)
                    for j in range(num_lanes):
                        to_dt += total[j] * x[t, head, j]
                        skipped += lane[j] * x[t, head, j]
                        grad_x[t, head, j] = dt[t, head] * total[j] + D[head] * lane[j]
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
        num_rows, num_kept = x.shape[2], initial.shape[3]
        longest = 0
        for s in range(len(bounds) - 1):
            longest = max(longest, bounds[s + 1] - bounds[s])
        states = np.empty(((longest + SEGMENT - 1) // SEGMENT, num_rows, num_lanes), x.dtype)
        gained = np.empty(longest, np.float64)
        state, u = np.zeros((num_rows, num_lanes), x.dtype), np.empty(num_rows, x.dtype)
        lane, total = np.empty(num_lanes, x.dtype), np.empty(num_lanes, x.dtype)
        nothing = np.finfo(x.dtype).eps ** 2
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                start, end = bounds[s], bounds[s + 1]
                for i in range(num_kept):
                    for j in range(num_lanes):
                        state[i, j] = initial[s, j, head, i]
                for t in range(start, end):
                    for i in range(num_rows):
                        u[i] = dt[t, head] * x[t, head, i]
                    for j in range(num_lanes):
                        lane[j], total[j] = B[t, j], 0
                    decay = math.exp(dt[t, head] * A[head])
                    _step(state, decay, u, lane, grad_y[t, head], total, num_rows, num_lanes)
                    gain = 0.0
                    for j in range(num_lanes):
                        grad_C[worker, t, j] += total[j]
                        gain += total[j] * C[t, j]
                    gained[t - start] = gain
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        for i in range(num_rows):
                            for j in range(num_lanes):
                                states[(t - start) // SEGMENT, i, j] = state[i, j]

                grad = state  # whose buffer is free now
                for i in range(num_kept):
                    for j in range(num_lanes):
                        grad[i, j] = grad_final[s, j, head, i]
                decay_after = x.dtype.type(1)
                to_decay = 0.0  # the product of this position's gradient and the state before it, as it decayed
                for t in range(end - 1, start - 1, -1):
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        product = 0.0
                        for i in range(num_rows):
                            for j in range(num_lanes):
                                product += grad[i, j] * states[(t - start) // SEGMENT, i, j]
                        to_decay = decay_after * product
                    for i in range(num_rows):
                        u[i] = dt[t, head] * x[t, head, i]
                    for j in range(num_lanes):
                        lane[j], total[j] = C[t, j], 0
                    _step(grad, decay_after, grad_y[t, head], lane, u, total, num_rows, num_lanes)
                    loss = 0.0
                    for j in range(num_lanes):
                        grad_B[worker, t, j] += total[j]
                        loss += total[j] * B[t, j]
                    decay_after = math.exp(dt[t, head] * A[head])
                    to_decay = to_decay + gained[t - start] - loss if decay_after > nothing else 0.0
                    grad_log_decay[t, head] = to_decay

    return Loops(forward, to_inputs, to_projections)
