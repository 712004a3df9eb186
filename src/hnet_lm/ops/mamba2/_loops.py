"""The compiled loops of one position a sequence, each with all its heads, side by side."""

import math
from functools import cache
from typing import no_type_check

import numpy as np
import torch

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import share_product
from hnet_lm.ops.native import ONE, WIDEST, at, compiled, place, scratch
from hnet_lm.ops.one_call import from_bits, hand_over
from hnet_lm.ops.rms_norm._loops import normed
from hnet_lm.ops.team import job, numbers, share

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


@cache
def step_job(dtype: torch.dtype) -> int:
    """The step of some sequences; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check
    def step_of_some(arguments, first, last):
        (
            num_rows, d_inner, d_conv, width, num_heads, num_slots,
            zxBCdt, y, taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state,
        ) = numbers(arguments, 18)  # fmt: skip
        step(
            first,
            last,
            at(zxBCdt, one, (num_rows, d_inner + d_conv + num_heads)),
            at(taps, one, (d_conv, width)),
            at(bias, one, (d_conv,)),
            at(dt_bias, one, (num_heads,)),
            at(A_log, one, (num_heads,)),
            at(D, one, (num_heads,)),
            at(norm_weight, one, (d_inner,)),
            from_bits(eps, one),
            at(slots, np.int64(1), (num_rows,)),
            at(past, one, (num_slots, width - 1, d_conv)),
            at(state, one, (num_slots, (d_conv - d_inner) // 2, d_inner)),
            at(y, one, (num_rows, d_inner)),
        )

    return step_of_some


@cache
def mamba2_job(dtype: torch.dtype) -> int:
    """All of the mixer; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check
    def mixer(arguments, team, _):
        (
            x, out, norm, norm_eps, multiply_in, in_proj, in_scale, multiply_out, out_proj, out_scale, step_some,
            num_rows, d_model, d_inner, d_conv, width, num_heads, num_slots,
            taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state,
        ) = numbers(arguments, 28)  # fmt: skip
        sizes = (num_rows, d_inner, d_conv, width, num_heads, num_slots)
        held = (taps, bias, dt_bias, A_log, D, norm_weight, eps, slots, past, state)
        zxBCdt = np.empty((num_rows, d_inner + d_conv + num_heads), type(one))
        y, result = np.empty((num_rows, d_inner), type(one)), np.empty((num_rows, d_model), type(one))
        rows = normed(at(x, one, (num_rows, d_model)), norm, from_bits(norm_eps, one))
        share_product(team, multiply_in, rows, in_proj, in_scale, zxBCdt)
        _share_step(team, step_some, sizes, zxBCdt, held, y)
        share_product(team, multiply_out, y, out_proj, out_scale, result)
        hand_over(result, x, out)

    return mixer


@no_type_check
@compiled
def _share_step(team, step_some, sizes, zxBCdt, held, y):
    share(team, step_some, (*sizes, place(zxBCdt), place(y), *held), len(y), 1)
