"""The compiled product of few positions with a matrix of floats, or of integers turned to floats on the way."""

from typing import no_type_check

from hnet_lm.ops.native import at, compiled, inlined


@no_type_check  # of Python: numba has types of its own
@compiled
def multiply(first, last, x, weight, scale, y):
    """Outputs first .. last of y = x weight^T, times their scale if there are any; x and y have a row a position.

    One position is multiplied with four rows of weights at a time, far from each other: one core reads four places at
    once twice as fast as one. Of several positions four are multiplied with two rows, so that each number that was
    loaded and converted is used several times.
    """
    real = x.dtype.type
    num_positions, d_in = x.shape
    grouped = num_positions // 4 * 4
    half = (last - first) // 2
    for i in range(first, first + half):
        for t in range(0, grouped, 4):
            a = b = c = d = e = f = g = h = real(0)
            for j in range(d_in):
                w, v = real(weight[i, j]), real(weight[i + half, j])
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
    for t in range(grouped):
        for i in range(first + 2 * half, last):
            y[t, i] = _product(x, t, weight, i)
    quarter = (last - first) // 4
    for t in range(grouped, num_positions):
        for i in range(first, first + quarter):
            a = b = c = d = real(0)
            for j in range(d_in):
                a += real(weight[i, j]) * x[t, j]
                b += real(weight[i + quarter, j]) * x[t, j]
                c += real(weight[i + 2 * quarter, j]) * x[t, j]
                d += real(weight[i + 3 * quarter, j]) * x[t, j]
            y[t, i], y[t, i + quarter], y[t, i + 2 * quarter], y[t, i + 3 * quarter] = a, b, c, d
        for i in range(first + 4 * quarter, last):
            y[t, i] = _product(x, t, weight, i)
    if len(scale):
        for t in range(num_positions):
            for i in range(first, last):
                y[t, i] *= real(scale[i])


@no_type_check
@inlined
def _product(x, t, weight, i):
    total = x.dtype.type(0)
    for j in range(x.shape[1]):
        total += x.dtype.type(weight[i, j]) * x[t, j]
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
