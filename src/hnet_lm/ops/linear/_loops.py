"""The compiled product of some positions with a matrix, whose numbers are turned to floats on the way."""

from typing import no_type_check

import numpy as np
import torch

from hnet_lm.ops.bfloat16 import widened
from hnet_lm.ops.native import at, compiled, fill, inlined, scratch
from hnet_lm.ops.vectors import plus_product, write, zeros

FEW = 24
"""Positions up to which vectors run along the weights, not over the positions."""
OUTPUTS = 6
"""Rows of weights at a time that meet vectors of positions: as many as registers hold the sums of."""
LANES = 32 if torch.backends.cpu.get_cpu_capability().startswith("AVX512") else 16


@no_type_check  # of Python: numba has types of its own
@compiled
def multiply(first, last, x, weight, scale, y):
    """Outputs first .. last of y = x weight^T, times their scale if there are any; x and y have a row a position."""
    if len(x) < 4:
        _multiply_single(first, last, x, weight, y)
    elif len(x) <= FEW:
        _multiply_few(first, last, x, weight, y)
    else:
        _multiply_many(first, last, x, weight, y)
    if len(scale):
        for t in range(len(x)):
            for i in range(first, last):
                y[t, i] *= x.dtype.type(scale[i])


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
    for i in range(first, first + half):
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
def _multiply_many(first, last, x, weight, y):
    """Vectors of positions, each times a number of the weights: sums over d_in stay in registers to their end."""
    one, (num_positions, d_in) = x.dtype.type(1), x.shape
    columns, rows = np.empty((d_in, LANES), x.dtype), np.empty((OUTPUTS, d_in), x.dtype)
    sums = scratch(one, OUTPUTS, LANES)
    fill(columns, 0)
    for start in range(0, num_positions, LANES):
        count = min(LANES, num_positions - start)
        for t in range(count):
            for j in range(d_in):
                columns[j, t] = x[start + t, j]
        for i in range(first, last, OUTPUTS):
            for o in range(OUTPUTS):
                row = weight[min(i + o, last - 1)]
                for j in range(d_in):
                    rows[o, j] = widened(row[j])
            a = b = c = d = e = f = zeros(one, LANES)
            for j in range(d_in):
                column = columns[j]
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
            for t in range(count):
                for o in range(min(OUTPUTS, last - i)):
                    y[start + t, i + o] = sums[o, t]


@no_type_check
@inlined
def _product(x, t, weight, i):
    total = x.dtype.type(0)
    for j in range(x.shape[1]):
        total += x.dtype.type(widened(weight[i, j])) * x[t, j]
    return total


@no_type_check
@compiled
def multiply_at(first, last, x, weight_one, weight, scale, y):
    """The same with weights at an address, and their scale too; at 0 there is none."""
    weight = at(weight, weight_one, (y.shape[1], x.shape[1]))
    multiply(first, last, x, weight, at(scale, x.dtype.type(1), (y.shape[1] if scale else 0,)), y)


@no_type_check
@compiled
def product(worker, first, last, one, weight_one, num_positions, d_in, d_out, x, weight, scale, y):
    """The same with all at addresses."""
    x, y = at(x, one, (num_positions, d_in)), at(y, one, (num_positions, d_out))
    multiply_at(first, last, x, weight_one, weight, scale, y)
