"""The compiled loop of one position: a range of sequences, each with all its heads, side by side."""

import math
from typing import no_type_check

import numpy as np

from hnet_lm.ops.native import compiled
from hnet_lm.ops.sigmoid import sigmoid

ROWS = 4
"""Rows of the state taken at a time."""


@no_type_check  # of Python: numba has types of its own
@compiled
def step(worker, first, last, zxBCdt, taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state, y):
    d_inner, d_conv, d_state, width = len(norm_weight), len(taps), state.shape[1], taps.shape[1]
    head_dim = d_inner // len(D)
    xBC = np.empty(d_conv, y.dtype)
    decay, u, total = np.empty(d_inner, y.dtype), np.empty(d_inner, y.dtype), np.empty(d_inner, y.dtype)
    for row in range(first, last):
        slot = slots[row]
        for j in range(d_conv):
            new = zxBCdt[row, d_inner + j]
            sum_ = bias[j] + taps[j, width - 1] * new
            for k in range(width - 1):
                sum_ += taps[j, k] * past[slot, k, j]
                past[slot, k, j] = past[slot, k + 1, j] if k < width - 2 else new
            xBC[j] = sum_ * sigmoid(sum_)
        B, C = xBC[d_inner : d_inner + d_state], xBC[d_inner + d_state :]

        for head in range(len(D)):
            raw = zxBCdt[row, d_inner + d_conv + head] + dt_bias[head]
            dt = raw if raw > 20 else math.log1p(math.exp(raw))
            left = math.exp(-dt * math.exp(A_log[head]))
            for j in range(head * head_dim, (head + 1) * head_dim):
                decay[j], u[j], total[j] = left, dt * xBC[j], D[head] * xBC[j]
        for i in range(0, d_state - ROWS + 1, ROWS):
            for j in range(d_inner):
                new_total = total[j]
                for k in range(ROWS):
                    new = decay[j] * state[slot, i + k, j] + B[i + k] * u[j]
                    state[slot, i + k, j] = new
                    new_total += C[i + k] * new
                total[j] = new_total
        for i in range(d_state - d_state % ROWS, d_state):
            for j in range(d_inner):
                state[slot, i, j] = decay[j] * state[slot, i, j] + B[i] * u[j]
                total[j] += C[i] * state[slot, i, j]

        squares = y.dtype.type(0)
        for j in range(d_inner):
            gate = zxBCdt[row, j]
            total[j] *= gate * sigmoid(gate)
            squares += total[j] * total[j]
        scale = 1 / np.sqrt(squares / d_inner + eps)
        for j in range(d_inner):
            y[row, j] = total[j] * scale * norm_weight[j]
