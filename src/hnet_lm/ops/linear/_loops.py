"""The compiled product of some positions with a matrix, whose numbers are turned to floats on the way."""

from functools import cache
from typing import no_type_check

import numpy as np
import torch

from hnet_lm.ops.bfloat16 import widened
from hnet_lm.ops.native import ONE, at, compiled, fetch, inlined, place, scratch
from hnet_lm.ops.team import job, numbers, share
from hnet_lm.ops.vectors import plus_product, write, zeros

FEW = 24
"""Positions up to which vectors run along the weights, not over the positions."""
OUTPUTS = 6
"""Rows of weights at a time that meet vectors of positions: as many as registers hold the sums of."""
NUMBERS_A_TURN = 1 << 14
"""Of weights, for a few positions: a few microseconds."""
LINE = 16
"""Outputs of one cache line, which two threads had better not write at once."""
LANES = 32 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 16


@no_type_check  # of Python: numba has types of its own
@compiled
def share_product(team, multiply, x, weight, scale, y):
    """y = x weight^T, times the scale of each output if there is any; weight and scale (0: none) are at addresses."""
    if len(x) > FEW:
        _share(team, multiply, x.shape, _in_columns(x), weight, scale, y, LINE * OUTPUTS // 2)
    else:
        lines = NUMBERS_A_TURN // (x.shape[1] * (1 + len(x) // 4)) // LINE
        _share(team, multiply, x.shape, x, weight, scale, y, (1 + lines) * LINE)


@no_type_check
@compiled
def share_product_at(team, one, num_positions, d_in, d_out, x, multiply, weight, scale, y):
    """The same with all at addresses."""
    x, y = at(x, one, (num_positions, d_in)), at(y, one, (num_positions, d_out))
    share_product(team, multiply, x, weight, scale, y)


@no_type_check
@compiled
def _share(team, multiply, shape, x, weight, scale, y, outputs_a_turn):
    share(team, multiply, (*shape, y.shape[1], place(x), weight, scale, place(y)), y.shape[1], outputs_a_turn)


@cache
def product_job(dtype: torch.dtype, weight_dtype: torch.dtype) -> int:
    """Some outputs of a product, of weights of another type or of the same; where it begins."""
    one, weight_one = ONE[dtype], ONE[weight_dtype]

    @job
    @no_type_check
    def product(arguments, first, last):
        num_positions, d_in, d_out, x, weight, scale, y = numbers(arguments, 7)
        weights, out = at(weight, weight_one, (d_out, d_in)), at(y, one, (num_positions, d_out))
        if num_positions <= FEW:
            rows = at(x, one, (num_positions, d_in))
            if num_positions < 4:
                _multiply_single(first, last, rows, weights, out)
            else:
                _multiply_few(first, last, rows, weights, out)
        else:
            columns = at(x, one, ((num_positions + LANES - 1) // LANES, d_in, LANES))
            _multiply_many(first, last, columns, weights, out)
        if scale:
            scales = at(scale, one, (d_out,))
            for t in range(num_positions):
                for i in range(first, last):
                    out[t, i] *= scales[i]

    return product


@no_type_check
@inlined
def _in_columns(x):
    """Vectors of positions, a number of each, for `_multiply_many`; what is missing in the last are zeros."""
    num_positions, d_in = x.shape
    columns = np.empty(((num_positions + LANES - 1) // LANES, d_in, LANES), x.dtype)
    for t in range(len(columns) * LANES):
        group, lane = columns[t // LANES], t % LANES
        for j in range(d_in):
            group[j, lane] = x[t, j] if t < num_positions else x.dtype.type(0)
    return columns


@no_type_check
@inlined
def _multiply_single(first, last, x, weight, y):
    """A position is multiplied with four rows of weights at a time, far from each other: one core reads four places at
    once twice as fast as one.
    """
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
            y[t, i] = _product(x, t, weight, i)


@no_type_check
@inlined
def _multiply_few(first, last, x, weight, y):
    """Four positions are multiplied with two rows, so that each number that was loaded and converted is used again."""
    real = x.dtype.type
    num_positions, d_in = x.shape
    grouped, half = num_positions // 4 * 4, (last - first) // 2
    row_bytes = d_in * weight.itemsize
    for i in range(first, first + half):
        fetch(place(weight) + (i + 1) * row_bytes, row_bytes)
        fetch(place(weight) + (i + half + 1) * row_bytes, row_bytes)
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
        for t in range(grouped, num_positions):
            y[t, i], y[t, i + half] = _product(x, t, weight, i), _product(x, t, weight, i + half)
    for i in range(first + 2 * half, last):
        for t in range(num_positions):
            y[t, i] = _product(x, t, weight, i)


@no_type_check
@inlined
def _multiply_many(first, last, columns, weight, y):
    """Vectors of positions, each times a number of the weights: sums over d_in stay in registers to their end."""
    one, (num_groups, d_in, _) = columns.dtype.type(1), columns.shape
    rows, sums = np.empty((OUTPUTS, d_in), columns.dtype), scratch(one, OUTPUTS, LANES)
    row_bytes = d_in * weight.itemsize
    for i in range(first, last, OUTPUTS):
        fetch(place(weight) + (i + OUTPUTS) * row_bytes, OUTPUTS * row_bytes)
        for o in range(OUTPUTS):
            row, wide = weight[min(i + o, last - 1)], rows[o]
            for j in range(d_in):
                wide[j] = widened(row[j])
        for group in range(num_groups):
            a = b = c = d = e = f = zeros(one, LANES)
            for j in range(d_in):
                column = columns[group, j]
                a = plus_product(a, rows[0, j], column)
                b = plus_product(b, rows[1, j], column)
                c = plus_product(c, rows[2, j], column)
                d = plus_product(d, rows[3, j], column)
                e = plus_product(e, rows[4, j], column)
                f = plus_product(f, rows[5, j], column)
            write(a, sums[0])
            write(b, sums[1])
            write(c, sums[2])
            write(d, sums[3])
            write(e, sums[4])
            write(f, sums[5])
            start = group * LANES
            for t in range(min(LANES, len(y) - start)):
                for o in range(min(OUTPUTS, last - i)):
                    y[start + t, i + o] = sums[o, t]


@no_type_check
@inlined
def _product(x, t, weight, i):
    total = x.dtype.type(0)
    for j in range(x.shape[1]):
        total += x.dtype.type(widened(weight[i, j])) * x[t, j]
    return total
