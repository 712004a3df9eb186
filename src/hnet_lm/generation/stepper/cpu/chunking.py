"""One position of dynamic chunking: where to cut, what goes on to the next stage, and what comes back from it.

A chunker's task writes the boundary probability p of each row; `select_task` then writes which streams the next stage
has rows of, and their vectors. So how many rows a stage has is known to compiled code alone.
"""

from functools import cache
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor, nn

from hnet_lm.generation.stepper.cpu.atomics import load, store
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import Program, Rows, Shape, checked, float_bits, float_of
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.dynamic_chunking import RoutingModule
from hnet_lm.model.dynamic_chunking.routing import RoutingState
from hnet_lm.model.dynamic_chunking.smoothing import MIN_PROB
from hnet_lm.model.hnet import HNet, HNetState
from hnet_lm.model.layers import Widen
from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, array_at, row_slice


def add_routing(
    program: Program, rows: Rows, name: str, routing: RoutingModule, state: RoutingState, x_hat: Tensor
) -> None:
    """p of each row."""
    dtype, d = program.dtype, x_hat.shape[1]
    last_q = checked(f"last_q of {name}", state.last_q, (program.max_rows, d), dtype)
    has_seen = checked(f"has_seen of {name}", state.has_seen, (program.max_rows,), torch.bool)
    q, k = program.scratch("projection", d), program.scratch("mixed", d)
    add_product(program, rows, f"{name}.q_proj.weight", routing.q_proj, x_hat, q)
    add_product(program, rows, f"{name}.k_proj.weight", routing.k_proj, x_hat, k)
    arguments = (rows.slots, d, q, k, last_q, has_seen, float_bits(EPS), rows.boundary_prob)
    program.add(routing_task(dtype), rows, arguments, Shape(items_per_row=1, work=4 * d))


def add_downsampling(
    program: Program, rows: Rows, inner_rows: Rows, name: str, stage: HNet, x_hat: Tensor, inner: Tensor
) -> None:
    """The rows of the next stage and their vectors."""
    widen: Widen = stage.widen
    d, inner_d = x_hat.shape[1], inner.shape[1]
    pad_vector = 0
    if inner_d > d:
        pad_vector = checked(f"{name}.widen.pad_vector", widen.pad_vector, (inner_d - d,), program.dtype)
    inside = (inner_rows.count, inner_rows.slots, inner_rows.chunk_prob, inner_d, pad_vector, inner)
    threshold = float_bits(stage.routing.threshold)
    arguments = (rows.count, rows.slots, d, x_hat, rows.boundary_prob, threshold, *inside)
    program.add(select_task(program.dtype), rows, arguments, Shape(items=1))


def add_upsampling(
    program: Program, rows: Rows, inner_rows: Rows, name: str, stage: HNet, state: HNetState, inner: Tensor,
    x_hat: Tensor, y: Tensor,
) -> None:  # fmt: skip
    """y = the smoothed vector of each row's chunk + residual_proj(x_hat)."""
    dtype, d = program.dtype, x_hat.shape[1]
    z = checked(f"the state of {name}smoothing", state.smoothing.z, (program.max_rows, d), dtype)
    chunk = checked(f"the state of {name}upsampler", state.upsampler.chunk, (program.max_rows, d), dtype)
    arguments = (inner_rows.slots, d, inner.shape[1], inner, inner_rows.chunk_prob, float_bits(MIN_PROB), z, chunk)
    program.add(smoothing_task(dtype), inner_rows, arguments, Shape(items_per_row=1, work=3 * d))
    residual_proj = stage.residual_proj
    bias, residual = 0, 0
    if isinstance(residual_proj, nn.Linear):
        bias = checked(f"{name}residual_proj.bias", residual_proj.bias, (d,), dtype)
    else:
        residual = x_hat
    arguments = (rows.slots, d, chunk, bias, residual, y)
    program.add(upsampling_task(dtype), rows, arguments, Shape(items_per_row=1, work=3 * d))
    if isinstance(residual_proj, nn.Linear):
        result = program.scratch("result", d)
        add_product(program, rows, f"{name}residual_proj.weight", residual_proj, x_hat, result, y)


@cache
def routing_task(dtype: torch.dtype) -> int:
    """p = (1 - cos(q of the last position, k)) / 2, or 1 where there was none. Items are rows.

    Arguments: (slots, d, q, k, last q (s, d), has seen (s,) int8, eps as float64 bits, p).
    """
    one = ONE[dtype]

    @no_type_check  # of Python: numba has types of its own
    def routing(arguments, first, last):
        slots, d, q, k, last_q, has_seen, eps, p = arguments_at(arguments, 8)
        for row in range(first, last):
            slot = load(slots + 8 * row)
            seen, prob = row_slice((np.int8(0), has_seen, 1), slot, 0, 1), row_slice((one, p, 1), row, 0, 1)
            new_q, before = row_slice((one, q, d), row, 0, d), row_slice((one, last_q, d), slot, 0, d)
            unlike = _dissimilarity(before, row_slice((one, k, d), row, 0, d), float_of(eps))
            prob[0] = unlike if seen[0] else 1
            seen[0] = 1
            for j in range(d):
                before[j] = new_q[j]

    return task(routing)


@no_type_check
@compiled
def _dissimilarity(q, k, eps):
    real = q.dtype.type
    along = q_squares = k_squares = real(0)
    for j in range(len(q)):
        along += q[j] * k[j]
        q_squares += q[j] * q[j]
        k_squares += k[j] * k[j]
    cosine = along / (max(np.sqrt(q_squares), real(eps)) * max(np.sqrt(k_squares), real(eps)))
    unlike = (1 - cosine) / 2
    if unlike < 0:  # min and max would lose a NaN
        return real(0)
    return real(1) if unlike > 1 else unlike


@cache
def select_task(dtype: torch.dtype) -> int:
    """The rows with p above the threshold become the rows of the next stage, widened by its pad vector. One item.

    Arguments: (rows, slots, d, x, p, threshold as float64 bits, rows of the next stage, its slots, its p, its d, pad
    vector, its x).
    """
    one = ONE[dtype]

    @no_type_check
    def select(arguments, first, last):
        rows, slots, d, x, p, threshold, inner_rows, inner_slots, inner_p, inner_d, pad_vector, inner_x = arguments_at(
            arguments, 12
        )
        threshold = type(one)(float_of(threshold))
        p, inner_p = array_at(p, one, (load(rows),)), array_at(inner_p, one, (load(rows),))
        pad = array_at(pad_vector, one, (inner_d - d,))
        num_inner = 0
        for row in range(load(rows)):
            if p[row] > threshold:
                store(inner_slots + 8 * num_inner, load(slots + 8 * row))
                inner_p[num_inner] = p[row]
                vector, wide = row_slice((one, x, d), row, 0, d), row_slice((one, inner_x, inner_d), num_inner, 0, d)
                for j in range(d):
                    wide[j] = vector[j]
                rest = row_slice((one, inner_x, inner_d), num_inner, d, inner_d - d)
                for j in range(inner_d - d):
                    rest[j] = pad[j]
                num_inner += 1
        store(inner_rows, num_inner)

    return task(select)


@cache
def smoothing_task(dtype: torch.dtype) -> int:
    """z = P inner + (1 - P) z, which is also the stream's chunk from now on. Items are rows of the next stage.

    Arguments: (its slots, d, its d, its output, its p, least P as float64 bits, z (s, d), chunk (s, d)).
    """
    one = ONE[dtype]

    @no_type_check
    def smoothing(arguments, first, last):
        slots, d, inner_d, inner, p, least, z, chunk = arguments_at(arguments, 8)
        least = type(one)(float_of(least))
        for row in range(first, last):
            slot = load(slots + 8 * row)
            prob = min(max(row_slice((one, p, 1), row, 0, 1)[0], least), 1 - least)
            vector, state = row_slice((one, inner, inner_d), row, 0, d), row_slice((one, z, d), slot, 0, d)
            current = row_slice((one, chunk, d), slot, 0, d)
            for j in range(d):
                state[j] = prob * vector[j] + (1 - prob) * state[j]
                current[j] = state[j]

    return task(smoothing)


@cache
def upsampling_task(dtype: torch.dtype) -> int:
    """y = chunk of the row's stream + what is given of (bias, x). Items are rows.

    Arguments: (slots, d, chunk (s, d), bias or 0, x or 0, y).
    """
    one = ONE[dtype]

    @no_type_check
    def upsampling(arguments, first, last):
        slots, d, chunk, bias, x, y = arguments_at(arguments, 6)
        for row in range(first, last):
            current = row_slice((one, chunk, d), load(slots + 8 * row), 0, d)
            out = row_slice((one, y, d), row, 0, d)
            for j in range(d):
                out[j] = current[j]
            if bias:
                _add(array_at(bias, one, (d,)), out)
            if x:
                _add(row_slice((one, x, d), row, 0, d), out)

    return task(upsampling)


@no_type_check
@compiled
def _add(vector, out):
    for j in range(len(out)):
        out[j] += vector[j]
