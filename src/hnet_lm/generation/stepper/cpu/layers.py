"""The small layers of one position: embedding, RMS norm, bias, the gate of an MLP. Items are rows."""

from functools import cache
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor, nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.atomics import load
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import Program, Rows, Shape, checked, float_bits, float_of
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.layers import GatedMLP, RMSNorm
from hnet_lm.ops.compiled.exponential import sigmoid
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, array_at, row_slice


def add_embedding(program: Program, rows: Rows, embedding: nn.Embedding, ids: Tensor, y: Tensor) -> None:
    """y = the vector of each row's id."""
    d = y.shape[1]
    weight = checked("embedding.weight", embedding.weight, (embedding.num_embeddings, d), program.dtype)
    program.add(embedding_task(program.dtype), rows, (d, ids, weight, y), Shape(items_per_row=1, work=d))


def add_norm(program: Program, rows: Rows, name: str, norm: RMSNorm, x: Tensor, y: Tensor) -> None:
    """y = norm(x); both may be the same memory."""
    d = x.shape[1]
    weight = checked(f"{name}.weight", norm.weight, (d,), program.dtype)
    arguments = (d, x, weight, float_bits(norm.eps), y)
    program.add(norm_task(program.dtype), rows, arguments, Shape(items_per_row=1, work=3 * d))


def add_part_norm(program: Program, rows: Rows, name: str, norm: RMSNorm, x: Tensor, start: int, length: int) -> None:
    """Entries `start` .. `start + length` of x normed in place, in parts as wide as the norm."""
    d = norm.weight.shape[0]
    weight = checked(f"{name}.weight", norm.weight, (d,), program.dtype)
    arguments = (d, x.shape[1], start, length // d, x, weight, float_bits(norm.eps))
    program.add(part_norm_task(program.dtype), rows, arguments, Shape(items_per_row=1, work=3 * length))


def add_normed(program: Program, rows: Rows, name: str, norm: RMSNorm, x: Tensor, total: Tensor) -> None:
    """total += norm(x)."""
    d = x.shape[1]
    weight = checked(f"{name}.weight", norm.weight, (d,), program.dtype)
    arguments = (d, x, weight, float_bits(norm.eps), total)
    program.add(add_normed_task(program.dtype), rows, arguments, Shape(items_per_row=1, work=4 * d))


def add_bias(program: Program, rows: Rows, name: str, bias: Tensor, y: Tensor) -> None:
    """y += bias."""
    d = y.shape[1]
    bias = checked(name, bias, (d,), program.dtype)
    program.add(bias_task(program.dtype), rows, (d, bias, y), Shape(items_per_row=1, work=2 * d))


def add_mlp(program: Program, rows: Rows, name: str, mlp: GatedMLP, x: Tensor, total: Tensor | None) -> Tensor:
    """The MLP's output for x, in scratch memory; also added to `total` where that is given."""
    weight = mlp.fc2.numbers if isinstance(mlp.fc2, RoundedLinear) else mlp.fc2.weight
    d, f = weight.shape
    y_gate, gated = program.scratch("projection", 2 * f), program.scratch("mixed", f)
    add_product(program, rows, f"{name}.fc1.weight", mlp.fc1, x, y_gate)
    program.add(gate_task(program.dtype), rows, (f, y_gate, gated), Shape(items_per_row=1, work=8 * f))
    result = program.scratch("result", d)
    add_product(program, rows, f"{name}.fc2.weight", mlp.fc2, gated, result, total)
    return result


@cache
def embedding_task(dtype: torch.dtype) -> int:
    """Arguments: (d, ids, weight, y)."""
    one = ONE[dtype]

    @no_type_check  # of Python: numba has types of its own
    def embedding(arguments, first, last):
        d, ids, weight, y = arguments_at(arguments, 4)
        for row in range(first, last):
            vector, out = row_slice((one, weight, d), load(ids + 8 * row), 0, d), row_slice((one, y, d), row, 0, d)
            for j in range(d):
                out[j] = vector[j]

    return task(embedding)


@cache
def norm_task(dtype: torch.dtype) -> int:
    """Arguments: (d, x, weight, eps as float64 bits, y); y may be x."""
    one = ONE[dtype]

    @no_type_check
    def norm(arguments, first, last):
        d, x, weight, eps, y = arguments_at(arguments, 5)
        weight = array_at(weight, one, (d,))
        for row in range(first, last):
            vector, out = row_slice((one, x, d), row, 0, d), row_slice((one, y, d), row, 0, d)
            _normalize(vector, weight, float_of(eps), out)

    return task(norm)


@cache
def part_norm_task(dtype: torch.dtype) -> int:
    """Arguments: (d, numbers of a row, start of the first part, number of parts, x, weight, eps as float64 bits)."""
    one = ONE[dtype]

    @no_type_check
    def part_norm(arguments, first, last):
        d, width, start, num_parts, x, weight, eps = arguments_at(arguments, 7)
        weight = array_at(weight, one, (d,))
        for row in range(first, last):
            for i in range(num_parts):
                part = row_slice((one, x, width), row, start + i * d, d)
                _normalize(part, weight, float_of(eps), part)

    return task(part_norm)


@cache
def add_normed_task(dtype: torch.dtype) -> int:
    """Arguments: (d, x, weight, eps as float64 bits, total); x becomes its norm."""
    one = ONE[dtype]

    @no_type_check
    def add_normed_rows(arguments, first, last):
        d, x, weight, eps, total = arguments_at(arguments, 5)
        weight = array_at(weight, one, (d,))
        for row in range(first, last):
            vector, out = row_slice((one, x, d), row, 0, d), row_slice((one, total, d), row, 0, d)
            _normalize(vector, weight, float_of(eps), vector)
            for j in range(d):
                out[j] += vector[j]

    return task(add_normed_rows)


@cache
def bias_task(dtype: torch.dtype) -> int:
    """Arguments: (d, bias, y)."""
    one = ONE[dtype]

    @no_type_check
    def add_bias_to_rows(arguments, first, last):
        d, bias, y = arguments_at(arguments, 3)
        bias = array_at(bias, one, (d,))
        for row in range(first, last):
            out = row_slice((one, y, d), row, 0, d)
            for j in range(d):
                out[j] += bias[j]

    return task(add_bias_to_rows)


@no_type_check
@compiled
def _normalize(x, weight, eps, y):
    squares = x.dtype.type(0)
    for j in range(len(x)):
        squares += x[j] * x[j]
    scale = 1 / np.sqrt(squares / len(x) + x.dtype.type(eps))
    for j in range(len(x)):
        y[j] = x[j] * scale * weight[j]


@cache
def gate_task(dtype: torch.dtype) -> int:
    """y * silu(gate) of rows [y, gate]. Arguments: (f, rows of 2 f, out)."""
    one = ONE[dtype]

    @no_type_check
    def apply_gate(arguments, first, last):
        f, y_gate, result = arguments_at(arguments, 3)
        for row in range(first, last):
            y, gate = row_slice((one, y_gate, 2 * f), row, 0, f), row_slice((one, y_gate, 2 * f), row, f, f)
            _multiply_by_silu(y, gate, row_slice((one, result, f), row, 0, f))

    return task(apply_gate)


@no_type_check
@compiled
def _multiply_by_silu(y, gate, result):
    for j in range(len(result)):
        result[j] = y[j] * gate[j] * sigmoid(gate[j])
