"""The compiled loops of one position: a range of sequences, each with all its heads, side by side."""

import math
from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import multiply_at
from hnet_lm.ops.native import START, at, compiled
from hnet_lm.ops.rms_norm._loops import normed

ROWS = 4
"""Rows of the state taken at a time."""


@no_type_check  # of Python: numba has types of its own
@compiled
def step(first, last, zxBCdt, taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state, y):
    """All between the projections."""
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


@no_type_check
@compiled
def _step_at(first, last, sizes, eps, zxBCdt, weights, slots, past, state, y):
    """The step with weights and states at addresses."""
    num_rows, _, d_inner, d_conv, width, num_heads, num_slots = sizes
    taps, bias, dt_bias, A_log, D, norm_weight = weights
    step(
        first,
        last,
        zxBCdt,
        at(taps, eps, (d_conv, width)),
        at(bias, eps, (d_conv,)),
        at(dt_bias, eps, (num_heads,)),
        at(A_log, eps, (num_heads,)),
        at(D, eps, (num_heads,)),
        at(norm_weight, eps, (d_inner,)),
        eps,
        at(slots, np.int64(1), (num_rows,)),
        at(past, eps, (num_slots, width - 1, d_conv)),
        at(state, eps, (num_slots, (d_conv - d_inner) // 2, d_inner)),
        y,
    )


@no_type_check
@compiled
def inner(worker, first, last, sizes, eps, zxBCdt, weights, slots, past, state, y):
    """The step of a range of sequences."""
    num_rows, _, d_inner, d_conv, _, num_heads, _ = sizes
    zxBCdt = at(zxBCdt, eps, (num_rows, d_inner + d_conv + num_heads))
    _step_at(first, last, sizes, eps, zxBCdt, weights, slots, past, state, at(y, eps, (num_rows, d_inner)))


@no_type_check
@compiled
def whole(
    sizes, eps, u, pre_norm, pre_eps, in_one, in_proj, in_scale, out_one, out_proj, out_scale,
    weights, slots, past, state, out,
):  # fmt: skip
    """The same between both projections, behind a norm; at 0 there is no norm, or no scale."""
    num_rows, d_model, d_inner, d_conv, _, num_heads, _ = sizes
    d_in = d_inner + d_conv + num_heads
    zxBCdt, y = np.empty((num_rows, d_in), type(eps)), np.empty((num_rows, d_inner), type(eps))
    u, out = at(u, eps, (num_rows, d_model)), at(out, eps, (num_rows, d_model))
    multiply_at(START, d_in, normed(u, pre_norm, pre_eps), in_one, in_proj, in_scale, zxBCdt)
    _step_at(START, num_rows, sizes, eps, zxBCdt, weights, slots, past, state, y)
    multiply_at(START, d_model, y, out_one, out_proj, out_scale, out)
