"""The compiled loop of one position: a range of sequences, each with all its heads."""

import math
from collections.abc import Callable
from functools import cache
from typing import no_type_check

import numpy as np

from hnet_lm.ops.native import compiled
from hnet_lm.ops.sigmoid import sigmoid

ROWS = 4
"""Rows of a head's state taken at a time, as many as registers hold."""


@no_type_check  # of Python: numba has types of its own
@cache
def step(num_lanes: int, num_rows: int) -> Callable[..., None]:
    """Compiled for a head width and for rows of the state taken at a time, which divide all rows."""

    @compiled
    def step(worker, first, last, zxBCdt, taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state, y):
        d_inner, d_conv, d_state, width = len(norm_weight), len(taps), state.shape[1], taps.shape[1]
        xBC = np.empty(d_conv, y.dtype)
        lane, total = np.empty(num_lanes, y.dtype), np.empty(num_lanes, y.dtype)
        for row in range(first, last):
            slot = slots[row]
            for j in range(d_conv):
                new = zxBCdt[row, d_inner + j]
                sum_ = bias[j] + taps[j, width - 1] * new
                for k in range(width - 1):
                    sum_ += taps[j, k] * past[slot, k, j]
                    past[slot, k, j] = past[slot, k + 1, j] if k < width - 2 else new
                xBC[j] = sum_ * sigmoid(sum_)

            squares = y.dtype.type(0)
            for head in range(len(D)):
                raw = zxBCdt[row, d_inner + d_conv + head] + dt_bias[head]
                dt = raw if raw > 20 else math.log1p(math.exp(raw))
                decay = math.exp(-dt * math.exp(A_log[head]))
                for j in range(num_lanes):
                    x = xBC[head * num_lanes + j]
                    lane[j], total[j] = dt * x, D[head] * x
                for i in range(0, d_state, num_rows):
                    for j in range(num_lanes):
                        new_total = total[j]
                        for k in range(num_rows):
                            new = decay * state[slot, i + k, head, j] + xBC[d_inner + i + k] * lane[j]
                            state[slot, i + k, head, j] = new
                            new_total += xBC[d_inner + d_state + i + k] * new
                        total[j] = new_total
                for j in range(num_lanes):
                    gate = zxBCdt[row, head * num_lanes + j]
                    gated = total[j] * gate * sigmoid(gate)
                    squares += gated * gated
                    y[row, head * num_lanes + j] = gated
            scale = 1 / np.sqrt(squares / d_inner + eps)
            for j in range(d_inner):
                y[row, j] *= scale * norm_weight[j]

    return step
