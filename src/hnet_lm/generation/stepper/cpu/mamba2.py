"""One position of a Mamba-2 mixer, between its projections: convolution, state space step, gated norm.

Each task works on rows of [z, x, B, C, dt], the input projection, and on the states where they are.
"""

import math
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from hnet_lm.generation.stepper.cpu.atomics import load
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import Program, Rows, Shape, checked, float_bits, float_of
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.mixers.mamba2 import Mamba2, Mamba2State
from hnet_lm.ops.compiled.exponential import sigmoid
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, address_of, array_at, row_slice, scratch

MAX_STATE = 1024
"""Rows of a state, d_state, for which there is scratch."""
MAX_LANES = 1024
"""Numbers of a row of a state that are updated at a time."""
STATE_ROWS = 4
"""Rows of a state that are updated at a time."""
MANY_ROWS = 8
"""Rows from which on threads share rows and not heads: memory is read faster where a whole state is contiguous."""


def add_mamba2(
    program: Program, rows: Rows, name: str, mixer: Mamba2, state: Mamba2State, x: Tensor, total: Tensor | None
) -> Tensor:
    """The mixer's output for x, in scratch memory; also added to `total` where that is given."""
    dtype, d_inner, n, h = program.dtype, mixer.d_inner, mixer.d_state, mixer.num_heads
    d_conv, width = d_inner + 2 * n, mixer.conv.kernel_size[0]
    length, slots = d_inner + d_conv + h, program.max_rows
    checked(f"{name}.conv.weight", mixer.conv.weight, (d_conv, 1, width), dtype)
    taps = mixer.conv.weight.detach()[:, 0].T.contiguous()
    bias = checked(f"{name}.conv.bias", mixer.conv.bias, (d_conv,), dtype)
    dt_bias, A_log, D = (
        checked(f"{name}.{key}", getattr(mixer, key), (h,), dtype) for key in ("dt_bias", "A_log", "D")
    )
    norm_weight = checked(f"{name}.norm.weight", mixer.norm.weight, (d_inner,), dtype)
    past = checked(f"the state of {name}.conv", state.conv, (slots, width - 1, d_conv), dtype)
    ssm = checked(f"the state of {name}", state.ssm, (slots, n, h, d_inner // h), dtype)

    projection, xBC = program.scratch("projection", length), program.scratch("convolved", d_conv)
    y, result = program.scratch("mixed", d_inner), program.scratch("result", x.shape[1])
    add_product(program, rows, f"{name}.in_proj.weight", mixer.in_proj, x, projection)
    arguments = (rows.slots, d_inner, d_conv, length, width, projection, taps, bias, past, xBC)
    program.add(convolution_task(dtype), rows, arguments, Shape(items_per_row=1, work=4 * width * d_conv))
    arguments = (rows.slots, d_inner, n, h, length, projection, xBC, dt_bias, A_log, D, ssm, y)
    shape = Shape(items_per_row=h, work=2 * n * d_inner // h)
    program.add(state_space_task(dtype), rows, arguments, shape._replace(most_rows=MANY_ROWS - 1))
    program.add(state_space_task(dtype), rows, arguments, shape._replace(fewest_rows=MANY_ROWS, granule=h))
    arguments = (d_inner, length, projection, norm_weight, float_bits(mixer.norm.eps), y)
    program.add(gated_norm_task(dtype), rows, arguments, Shape(items_per_row=1, work=8 * d_inner))
    add_product(program, rows, f"{name}.out_proj.weight", mixer.out_proj, y, result, total)
    return result


@cache
def convolution_task(dtype: torch.dtype) -> int:
    """Rows of silu(conv([x, B, C])); the last inputs move on by one.

    Arguments: (slots, d_inner, d_conv, row length of the projection, w, projection, weight (w, d_conv), bias,
    last inputs (s, w - 1, d_conv), y (t, d_conv)).
    """
    one = ONE[dtype]

    @no_type_check  # of Python: numba has types of its own
    def convolution(arguments, first, last):
        slots, d_inner, d_conv, length, width, projection, weight, bias, past, y = arguments_at(arguments, 10)
        weight, bias = array_at(weight, one, (width, d_conv)), array_at(bias, one, (d_conv,))
        for row in range(first, last):
            new = row_slice((one, projection, length), row, d_inner, d_conv)
            out = row_slice((one, y, d_conv), row, 0, d_conv)
            _convolve(new, weight, bias, past, load(slots + 8 * row), out)

    return task(convolution)


@no_type_check
@compiled
def _convolve(new, weight, bias, past, slot, out):
    one, (width, d_conv) = new.dtype.type(1), weight.shape
    for j in range(d_conv):
        out[j] = bias[j] + weight[width - 1, j] * new[j]
    for k in range(width - 1):
        inputs = row_slice((one, past, d_conv), slot * (width - 1) + k, 0, d_conv)
        next_inputs = new if k == width - 2 else row_slice((one, past, d_conv), slot * (width - 1) + k + 1, 0, d_conv)
        for j in range(d_conv):
            out[j] += weight[k, j] * inputs[j]
            inputs[j] = next_inputs[j]
    for j in range(d_conv):
        out[j] *= sigmoid(out[j])


@cache
def state_space_task(dtype: torch.dtype) -> int:
    """Heads of rows of h = exp(dt A) h + dt B x^T, y = C h + D x: item i is head i % h of row i // h.

    Arguments: (slots, d_inner, d_state, h, row length of the projection, projection, xBC (t, d_inner + 2 d_state),
    dt_bias, A_log, D, states (s, d_state, d_inner), y (t, d_inner)).
    """
    one = ONE[dtype]

    @no_type_check
    def state_space(arguments, first, last):
        slots, d_inner, d_state, num_heads, length, projection, xBC, dt_bias, A_log, D, states, y = arguments_at(
            arguments, 12
        )
        head_dim, d_conv = d_inner // num_heads, d_inner + 2 * d_state
        heads_at_once = max(1, MAX_LANES // head_dim)
        dt_bias, A_log = array_at(dt_bias, one, (num_heads,)), array_at(A_log, one, (num_heads,))
        D = array_at(D, one, (num_heads,))
        item = first
        while item < last:
            row, head = item // num_heads, item % num_heads
            heads = min(heads_at_once, num_heads - head, last - item)
            start, num_lanes = head * head_dim, heads * head_dim
            x = row_slice((one, xBC, d_conv), row, start, num_lanes)
            B = row_slice((one, xBC, d_conv), row, d_inner, d_state)
            C = row_slice((one, xBC, d_conv), row, d_inner + d_state, d_state)
            dt = row_slice((one, projection, length), row, d_inner + d_conv + head, heads)
            first_state_row = row_slice((one, states, d_inner), load(slots + 8 * row) * d_state, start, num_lanes)
            out = row_slice((one, y, d_inner), row, start, num_lanes)
            own = slice(head, head + heads)
            _update(x, B, C, dt, dt_bias[own], A_log[own], D[own], address_of(first_state_row), d_inner, out)
            item += heads

    return task(state_space)


@no_type_check
@compiled
def _update(x, new_B, new_C, raw_dt, dt_bias, A_log, D, state, stride, y):
    one, num_lanes, d_state = x.dtype.type(1), len(x), len(new_B)
    head_dim = num_lanes // len(raw_dt)
    decay, u, total = scratch(one, 1, MAX_LANES)[0], scratch(one, 1, MAX_LANES)[0], scratch(one, 1, MAX_LANES)[0]
    B, C = scratch(one, 1, MAX_STATE)[0], scratch(one, 1, MAX_STATE)[0]
    for i in range(d_state):
        B[i], C[i] = new_B[i], new_C[i]
    for head in range(len(raw_dt)):
        raw = raw_dt[head] + dt_bias[head]
        dt = raw if raw > 20 else math.log1p(math.exp(raw))
        remaining = math.exp(-dt * math.exp(A_log[head]))
        for j in range(head * head_dim, (head + 1) * head_dim):
            decay[j], u[j], total[j] = remaining, dt * x[j], D[head] * x[j]
    h = array_at(state, one, (d_state, stride))
    for i in range(0, d_state - STATE_ROWS + 1, STATE_ROWS):
        for j in range(num_lanes):
            new_total = total[j]
            for k in range(STATE_ROWS):
                new_h = decay[j] * h[i + k, j] + B[i + k] * u[j]
                h[i + k, j] = new_h
                new_total += C[i + k] * new_h
            total[j] = new_total
    for i in range(d_state - d_state % STATE_ROWS, d_state):
        for j in range(num_lanes):
            h[i, j] = decay[j] * h[i, j] + B[i] * u[j]
            total[j] += C[i] * h[i, j]
    for j in range(num_lanes):
        y[j] = total[j]


@cache
def gated_norm_task(dtype: torch.dtype) -> int:
    """Rows of rms_norm(y * silu(z)), in place.

    Arguments: (d_inner, row length of the projection, projection, weight, eps as float64 bits, y (t, d_inner)).
    """
    one = ONE[dtype]

    @no_type_check
    def gated_norm(arguments, first, last):
        d, length, projection, weight, eps, y = arguments_at(arguments, 6)
        weight = array_at(weight, one, (d,))
        for row in range(first, last):
            z, out = row_slice((one, projection, length), row, 0, d), row_slice((one, y, d), row, 0, d)
            _gate_and_norm(z, out, weight, float_of(eps))

    return task(gated_norm)


@no_type_check
@compiled
def _gate_and_norm(z, y, weight, eps):
    squares = y.dtype.type(0)
    for j in range(len(y)):
        y[j] *= z[j] * sigmoid(z[j])
        squares += y[j] * y[j]
    scale = 1 / np.sqrt(squares / len(y) + y.dtype.type(eps))
    for j in range(len(y)):
        y[j] *= scale * weight[j]
