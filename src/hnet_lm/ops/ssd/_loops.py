"""The compiled loops of the scan: a range of heads, one after the other, each over all sequences.

Vectors run over the lanes. Rows are taken four at a time, as many as registers hold. Lanes and sums of a position are
copied to buffers of their own, so that the compiler knows that nothing overlaps.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.native import compiled, inlined

ROWS = 4
"""Rows taken at a time."""
SEGMENT = 64
"""Positions after which the product of state and gradient is taken anew, and not carried on from the one before."""


class Loops(NamedTuple):
    """`(worker, first head, last head, ...)`."""

    scan: Callable[..., None]
    scan_both: Callable[..., None]


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
@inlined
def _load(state, values, s, head, num_rows, num_lanes):
    for i in range(num_rows):
        for j in range(num_lanes):
            state[i, j] = values[s, i, head, j]


@no_type_check
@cache
def loops(num_lanes: int) -> Loops:
    """Compiled for a number of lanes, so that the loop over them has no end to test."""

    @compiled
    def scan(worker, first, last, rows, lanes, probe, decay, bounds, initial, forward, out, final):
        num_rows, num_kept = rows.shape[1], initial.shape[1]
        state = np.zeros((num_rows, num_lanes), out.dtype)
        lane, total = np.empty(num_lanes, out.dtype), np.empty(num_lanes, out.dtype)
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                start, end = bounds[s], bounds[s + 1]
                _load(state, initial, s, head, num_kept, num_lanes)
                for i in range(end - start):
                    t = start + i if forward else end - 1 - i
                    for j in range(num_lanes):
                        lane[j], total[j] = lanes[t, head, j], out[t, head, j]
                    _step(state, decay[t, head], rows[t], lane, probe[t], total, num_rows, num_lanes)
                    for j in range(num_lanes):
                        out[t, head, j] = total[j]
                for i in range(num_kept):
                    for j in range(num_lanes):
                        final[s, i, head, j] = state[i, j]

    @compiled
    def scan_both(
        worker, first, last, u, grad_y, B, C, decay, decay_after, bounds, initial, grad_final, grad_B, grad_C, grad_log
    ):
        num_rows, num_kept = u.shape[2], initial.shape[1]
        longest = (bounds[1:] - bounds[:-1]).max()
        states = np.empty(((longest + SEGMENT - 1) // SEGMENT, num_rows, num_lanes), u.dtype)
        gained = np.empty(longest, u.dtype)
        state = np.zeros((num_rows, num_lanes), u.dtype)
        lane, total = np.empty(num_lanes, u.dtype), np.empty(num_lanes, u.dtype)
        nothing = np.finfo(u.dtype).eps ** 2
        for head in range(first, last):
            for s in range(len(bounds) - 1):
                start, end = bounds[s], bounds[s + 1]
                _load(state, initial, s, head, num_kept, num_lanes)
                for t in range(start, end):
                    for j in range(num_lanes):
                        lane[j], total[j] = B[t, j], 0
                    _step(state, decay[t, head], u[t, head], lane, grad_y[t, head], total, num_rows, num_lanes)
                    gain = u.dtype.type(0)
                    for j in range(num_lanes):
                        grad_C[t, worker, j] += total[j]
                        gain += total[j] * C[t, j]
                    gained[t - start] = gain
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        states[(t - start) // SEGMENT] = state

                # From here on the state is the gradient to the state.
                _load(state, grad_final, s, head, num_kept, num_lanes)
                carried = 0.0
                for t in range(end - 1, start - 1, -1):
                    if (t - start) % SEGMENT == SEGMENT - 1 or t == end - 1:
                        product = u.dtype.type(0)
                        for r in range(num_rows):
                            for j in range(num_lanes):
                                product += state[r, j] * states[(t - start) // SEGMENT, r, j]
                        carried = decay_after[t, head] * product
                    for j in range(num_lanes):
                        lane[j], total[j] = C[t, j], 0
                    _step(state, decay_after[t, head], grad_y[t, head], lane, u[t, head], total, num_rows, num_lanes)
                    loss = u.dtype.type(0)
                    for j in range(num_lanes):
                        grad_B[t, worker, j] += total[j]
                        loss += total[j] * B[t, j]
                    carried = carried + gained[t - start] - loss if decay[t, head] > nothing else 0.0
                    grad_log[t, head] = carried

    return Loops(scan, scan_both)
