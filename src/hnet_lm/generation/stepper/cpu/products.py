"""The product of a few rows with a matrix of float32, bfloat16 or int8 weights, widened on the way.

    y_ti = scale_i sum_j W_ij x_tj

For few rows nothing takes as long as reading the weights, so the items of a task are rows of weights. How they meet
the rows of x depends on the number of those: below `FEW` vectors run along a row of weights; from there on they run
across the rows of x, which `transpose_task` lays out for it.
"""

from functools import cache
from typing import Any, no_type_check

import torch
from torch import Tensor, nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.atomics import load
from hnet_lm.generation.stepper.cpu.program import Program, Rows, Shape, checked
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.ops.compiled.bfloat16 import widened
from hnet_lm.ops.compiled.jit import compiled, inlined
from hnet_lm.ops.compiled.memory import ONE, address_of, array_at, fill, prefetch, scratch
from hnet_lm.ops.compiled.vectors import load_vector, multiply_add, num_lanes, store_vector

SINGLE = 3
"""Most rows of x that are multiplied one by one."""
FEW = 24
"""Most rows of x with which vectors run along the weights."""
MANY = 1 << 62
"""Most rows of x that may be transposed: any number."""
OUTPUTS = 6
"""Rows of weights that meet vectors of x at a time: as many as registers hold the sums of."""
DEPTH = 1024
"""Weights of a row that are widened at a time, and then stay in the first cache."""
GROUPS = 8
"""Vectors of rows of x that meet the same widened weights."""
SUMS = GROUPS * OUTPUTS
GRANULE, MANY_GRANULE = 16, 48
"""Ranges of outputs are multiples of these: whole cache lines, and for many rows whole blocks of `OUTPUTS` as well."""
ROUNDED = (torch.bfloat16, torch.int8)


def add_product(
    program: Program, rows: Rows, name: str, linear: nn.Module, x: Tensor, y: Tensor, total: Tensor | None = None
) -> None:
    """y = W x of each row, also added to `total` where that is given. Any bias is left to the caller."""
    d_in, d_out, dtype = x.shape[1], y.shape[1], program.dtype
    is_rounded = isinstance(linear, RoundedLinear)
    weight: Any = linear.numbers if is_rounded else linear.weight
    scale = linear.scale if is_rounded else None
    checked(name, weight, (d_out, d_in), weight.dtype if weight.dtype in ROUNDED and is_rounded else dtype)
    if scale is not None:
        checked(f"the scale of {name}", scale, (d_out,), dtype)
    fewest_rows = 1
    for most_rows in (SINGLE, FEW, MANY):
        if fewest_rows > program.max_rows:
            return
        shape = Shape(items=d_out, work=d_in, work_per_row=d_in // 4, granule=GRANULE)
        if most_rows > FEW:
            columns = program.columns(num_lanes(dtype), d_in)
            transposed = Shape(items_per_row=1, work=2 * d_in, fewest_rows=fewest_rows)
            program.add(transpose_task(dtype), rows, (rows.count, d_in, x, columns), transposed)
            x, shape = columns, shape._replace(granule=MANY_GRANULE)
        shape = shape._replace(fewest_rows=fewest_rows, most_rows=most_rows)
        arguments = (rows.count, d_in, d_out, x, weight, _or_0(scale), y, _or_0(total))
        program.add(product_task(dtype, weight.dtype, most_rows), rows, arguments, shape)
        fewest_rows = most_rows + 1


def _or_0(tensor: Tensor | None) -> Tensor | int:
    return 0 if tensor is None else tensor


@cache
def product_task(dtype: torch.dtype, weight_dtype: torch.dtype, most_rows: int) -> int:
    """A range of outputs, for up to `most_rows` rows: `SINGLE`, `FEW`, or `MANY`, which `transpose_task` has laid out.

    Arguments: (rows, d_in, d_out, x, weight, scale, y, total), addresses but for the sizes. Where `total` is not 0,
    the result is also added to it.
    """
    one, weight_one, lanes = ONE[dtype], ONE[weight_dtype], num_lanes(dtype)

    @no_type_check  # of Python: numba has types of its own
    def single_product(arguments, first, last):
        rows, d_in, d_out, x, weight, scale, y, total = arguments_at(arguments, 8)
        x, y = array_at(x, one, (load(rows), d_in)), array_at(y, one, (load(rows), d_out))
        _multiply_single(first, last, x, array_at(weight, weight_one, (d_out, d_in)), y)
        _finish(first, last, scale, total, y)

    @no_type_check
    def few_product(arguments, first, last):
        rows, d_in, d_out, x, weight, scale, y, total = arguments_at(arguments, 8)
        x, y = array_at(x, one, (load(rows), d_in)), array_at(y, one, (load(rows), d_out))
        _multiply_few(first, last, x, array_at(weight, weight_one, (d_out, d_in)), y)
        _finish(first, last, scale, total, y)

    @no_type_check
    def many_product(arguments, first, last):
        rows, d_in, d_out, x, weight, scale, y, total = arguments_at(arguments, 8)
        columns = array_at(x, one, ((load(rows) + lanes - 1) // lanes, d_in, lanes))
        weights, y = array_at(weight, weight_one, (d_out, d_in)), array_at(y, one, (load(rows), d_out))
        wide, sums = scratch(one, OUTPUTS, DEPTH), scratch(one, SUMS, lanes)
        _multiply_many(first, last, columns, weights, weight_one, y, wide, sums, lanes)
        _finish(first, last, scale, total, y)

    # numba caches no function that has another in its closure, so these are three.
    return task({SINGLE: single_product, FEW: few_product, MANY: many_product}[most_rows])


@cache
def transpose_task(dtype: torch.dtype) -> int:
    """A range of rows of x, for the product of many rows. Arguments: (rows, d, x, columns)."""
    one, lanes = ONE[dtype], num_lanes(dtype)

    @no_type_check
    def transpose(arguments, first, last):
        rows, d, x, columns = arguments_at(arguments, 4)
        num_rows = load(rows)
        x = array_at(x, one, (num_rows, d))
        columns = array_at(columns, one, ((num_rows + lanes - 1) // lanes, d, lanes))
        for t in range(first, last):
            group, lane = columns[t // lanes], t % lanes
            for j in range(d):
                group[j, lane] = x[t, j]

    return task(transpose)


@no_type_check
@compiled
def _finish(first, last, scale, total, y):
    """Scale the outputs and add them to `total`, both at addresses, where not 0."""
    one = y.dtype.type(1)
    if scale:
        scales = array_at(scale, one, (y.shape[1],))
        for t in range(len(y)):
            for i in range(first, last):
                y[t, i] *= scales[i]
    if total:
        totals = array_at(total, one, y.shape)
        for t in range(len(y)):
            for i in range(first, last):
                totals[t, i] += y[t, i]


@no_type_check
@inlined
def _multiply_single(first, last, x, weight, y):
    """Each row of x meets four distant rows of weights at a time: one core reads four streams twice as fast as one."""
    real = x.dtype.type
    quarter = (last - first) // 4
    for t in range(len(x)):
        for i in range(first, first + quarter):
            a = b = c = d = real(0)
            for j in range(x.shape[1]):
                a += real(widened(weight[i, j])) * x[t, j]
                b += real(widened(weight[i + quarter, j])) * x[t, j]
                c += real(widened(weight[i + 2 * quarter, j])) * x[t, j]
                d += real(widened(weight[i + 3 * quarter, j])) * x[t, j]
            y[t, i], y[t, i + quarter], y[t, i + 2 * quarter], y[t, i + 3 * quarter] = a, b, c, d
        for i in range(first + 4 * quarter, last):
            y[t, i] = _dot(x, t, weight, i)


@no_type_check
@inlined
def _multiply_few(first, last, x, weight, y):
    """Four rows of x meet two rows of weights, so that each number that was loaded and widened is used again."""
    real = x.dtype.type
    num_rows, d_in = x.shape
    grouped, half = num_rows // 4 * 4, (last - first) // 2
    row_bytes = d_in * weight.itemsize
    for i in range(first, first + half):
        prefetch(address_of(weight) + (i + 1) * row_bytes, row_bytes)
        prefetch(address_of(weight) + (i + half + 1) * row_bytes, row_bytes)
        for t in range(0, grouped, 4):
            a = b = c = d = e = f = g = h = real(0)
            for j in range(d_in):
                w, v = real(widened(weight[i, j])), real(widened(weight[i + half, j]))
                a += w * x[t, j]
                b += w * x[t + 1, j]
                c += w * x[t + 2, j]
                d += w * x[t + 3, j]
                e += v * x[t, j]
                f += v * x[t + 1, j]
                g += v * x[t + 2, j]
                h += v * x[t + 3, j]
            y[t, i], y[t + 1, i], y[t + 2, i], y[t + 3, i] = a, b, c, d
            y[t, i + half], y[t + 1, i + half], y[t + 2, i + half], y[t + 3, i + half] = e, f, g, h
        for t in range(grouped, num_rows):
            y[t, i], y[t, i + half] = _dot(x, t, weight, i), _dot(x, t, weight, i + half)
    for i in range(first + 2 * half, last):
        for t in range(num_rows):
            y[t, i] = _dot(x, t, weight, i)


@no_type_check
@inlined
def _multiply_many(first, last, columns, weight, weight_one, y, wide, sums, lanes):
    """Vectors of rows of x, each times one weight. `wide` and `sums` are scratch."""
    one, num_groups, d_in = y.dtype.type(1), columns.shape[0], columns.shape[1]
    row_bytes, vector_bytes = d_in * weight.itemsize, lanes * y.itemsize
    for i in range(first, last, OUTPUTS):
        prefetch(address_of(weight) + (i + OUTPUTS) * row_bytes, OUTPUTS * row_bytes)
        for first_group in range(0, num_groups, GROUPS):
            last_group = min(first_group + GROUPS, num_groups)
            fill(sums, y.dtype.type(0))
            for start in range(0, d_in, DEPTH):
                depth = min(DEPTH, d_in - start)
                for o in range(OUTPUTS):
                    address = address_of(weight) + min(i + o, last - 1) * row_bytes + start * weight.itemsize
                    row = array_at(address, weight_one, (depth,))
                    for j in range(depth):
                        wide[o, j] = widened(row[j])
                for group in range(first_group, last_group):
                    s = (group - first_group) * OUTPUTS
                    a, b = load_vector(sums[s]), load_vector(sums[s + 1])
                    c, d = load_vector(sums[s + 2]), load_vector(sums[s + 3])
                    e, f = load_vector(sums[s + 4]), load_vector(sums[s + 5])
                    block = array_at(address_of(columns) + (group * d_in + start) * vector_bytes, one, (depth, lanes))
                    for j in range(depth):
                        column = block[j]
                        a = multiply_add(a, wide[0, j], column)
                        b = multiply_add(b, wide[1, j], column)
                        c = multiply_add(c, wide[2, j], column)
                        d = multiply_add(d, wide[3, j], column)
                        e = multiply_add(e, wide[4, j], column)
                        f = multiply_add(f, wide[5, j], column)
                    store_vector(a, sums[s])
                    store_vector(b, sums[s + 1])
                    store_vector(c, sums[s + 2])
                    store_vector(d, sums[s + 3])
                    store_vector(e, sums[s + 4])
                    store_vector(f, sums[s + 5])
            for group in range(first_group, last_group):
                s = (group - first_group) * OUTPUTS
                for lane in range(min(lanes, len(y) - group * lanes)):
                    for o in range(min(OUTPUTS, last - i)):
                        y[group * lanes + lane, i + o] = sums[s + o, lane]


@no_type_check
@inlined
def _dot(x, t, weight, i):
    total = x.dtype.type(0)
    for j in range(x.shape[1]):
        total += x.dtype.type(widened(weight[i, j])) * x[t, j]
    return total
