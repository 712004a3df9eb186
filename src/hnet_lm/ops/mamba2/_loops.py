"""The compiled loops of one position: a range of sequences, each with all its heads, side by side."""

import math
from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import multiply_at
from hnet_lm.ops.native import START, WIDEST, at, compiled, scratch
from hnet_lm.ops.rms_norm._loops import normed

ROWS = 4
"""Rows of the state taken at a time."""


@no_type_check  # of Python: numba has types of its own
@compiled
def step(first, last, zxBCdt, taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state, y):
    """All between the projections."""
    d_inner, d_conv, d_state, width = len(norm_weight), len(taps), state.shape[1], taps.shape[1]
    head_dim = d_inner // len(D)
    xBC, decay = scratch(eps, 1, WIDEST)[0], scratch(eps, 1, WIDEST)[0]
    u, total = scratch(eps, 1, WIDEST)[0], scratch(eps, 1, WIDEST)[0]
    for row in range(first, last):
        slot = slots[row]
        z, new = zxBCdt[row, :d_inner], zxBCdt[row, d_inner : d_inner + d_conv]
        raw_dt = zxBCdt[row, d_inner + d_conv :]
        for j in range(d_conv):
            xBC[j] = bias[j] + taps[j, width - 1] * new[j]
        for k in range(width - 1):
            old, next_ = past[slot, k], new if k == width - 2 else past[slot, k + 1]
            for j in range(d_conv):
                xBC[j] += taps[j, k] * old[j]
                old[j] = next_[j]
        for j in range(d_conv):
            xBC[j] *= sigmoid(xBC[j])
        B, C = xBC[d_inner : d_inner + d_state], xBC[d_inner + d_state : d_conv]

        for head in range(len(D)):
            raw = raw_dt[head] + dt_bias[head]
            dt = raw if raw > 20 else math.log1p(math.exp(raw))
            left = math.exp(-dt * math.exp(A_log[head]))
            start, end = head * head_dim, (head + 1) * head_dim
            x, decays, inputs, totals = xBC[start:end], decay[start:end], u[start:end], total[start:end]
            for j in range(head_dim):
                decays[j], inputs[j], totals[j] = left, dt * x[j], D[head] * x[j]
        for i in range(0, d_state - ROWS + 1, ROWS):
            for j in range(d_inner):
                new_total = total[j]
                for k in range(ROWS):
                    new_state = decay[j] * state[slot, i + k, j] + B[i + k] * u[j]
                    state[slot, i + k, j] = new_state
                    new_total += C[i + k] * new_state
                total[j] = new_total
        for i in range(d_state - d_state % ROWS, d_state):
            for j in range(d_inner):
                state[slot, i, j] = decay[j] * state[slot, i, j] + B[i] * u[j]
                total[j] += C[i] * state[slot, i, j]

        squares = eps * 0
        for j in range(d_inner):
            total[j] *= z[j] * sigmoid(z[j])
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
