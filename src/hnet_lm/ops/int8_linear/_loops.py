"""The compiled product over a range of outputs: `(worker, first, last, ...)`.

Sums are made four at a time, with one factor that all share, so that each loaded and converted number is used four
times: four positions of one output while there are so many, then four outputs of one position.
"""

from typing import no_type_check

from hnet_lm.ops.native import compiled, inlined


@no_type_check  # of Python: numba has types of its own
@inlined
def _four_products(shared, rows, real):
    """The scalar products of a vector with four others; `real` makes a number of the type in which sums are kept."""
    a = b = c = d = real(0)
    for j in range(len(shared)):
        factor = real(shared[j])
        a += factor * real(rows[0, j])
        b += factor * real(rows[1, j])
        c += factor * real(rows[2, j])
        d += factor * real(rows[3, j])
    return a, b, c, d


@no_type_check
@compiled
def product(worker, first, last, x, weight, scale, y):
    real = x.dtype.type
    grouped = len(x) // 4 * 4
    for t in range(0, grouped, 4):
        for i in range(first, last):
            sums = _four_products(weight[i], x[t : t + 4], real)
            for k in range(4):
                y[t + k, i] = real(scale[i]) * sums[k]
    grouped_outputs = first + (last - first) // 4 * 4
    for t in range(grouped, len(x)):
        for i in range(first, grouped_outputs, 4):
            sums = _four_products(x[t], weight[i : i + 4], real)
            for k in range(4):
                y[t, i + k] = real(scale[i + k]) * sums[k]
        for i in range(grouped_outputs, last):
            total = real(0)
            for j in range(len(x[t])):
                total += real(weight[i, j]) * x[t, j]
            y[t, i] = real(scale[i]) * total
