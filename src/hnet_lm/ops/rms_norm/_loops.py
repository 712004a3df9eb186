"""The compiled loops of the norm over a range of positions: `(worker, first, last, ...)`.

Matrices are passed as `memory.rows`, a missing gate with address 0; vectors as addresses, in the type of eps, which is
also the type of the computation.
"""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.exponential import sigmoid
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import MAX_WIDTH, address_of, array_at, prefetch, row_slice, scratch

AHEAD = 2
"""Rows of the gate that are fetched before they are needed: within wider rows they are far from one another, which no
machine foresees."""


@no_type_check  # of Python: numba has types of its own
@compiled
def norm(worker, first, last, d, eps, x, weight, gate, y, scale):
    """The factor of each position, 1 / sqrt(mean + eps), goes to `scale`."""
    weights, scales = array_at(weight, eps, (d,)), array_at(scale, eps, (last,))
    v = scratch(eps, 1, MAX_WIDTH)[0]
    one, width = type(eps)(1), type(eps)(d)
    for t in range(first, last):
        row, out = row_slice(x, t, 0, d), row_slice(y, t, 0, d)
        for j in range(d):
            v[j] = widened(row[j])
        if gate[1]:
            gates, ahead = row_slice(gate, t, 0, d), row_slice(gate, t + AHEAD, 0, d)
            prefetch(address_of(ahead), d * ahead.itemsize)
            for j in range(d):
                v[j] *= widened(gates[j]) * sigmoid(widened(gates[j]))
        squares = type(eps)(0)
        for j in range(d):
            squares += v[j] * v[j]
        factor = one / np.sqrt(squares / width + eps)
        scales[t] = factor
        for j in range(d):
            out[j] = narrowed(v[j] * factor * weights[j], out)


@no_type_check
@compiled
def norm_backward(worker, first, last, d, eps, grad_y, x, weight, gate, scale, grad_x, grad_weight, grad_gate):
    """Each worker writes its part of the gradient to the weight into a row of `grad_weight`."""
    weights, scales = array_at(weight, eps, (d,)), array_at(scale, eps, (last,))
    value, factor, slope = scratch(eps, 1, MAX_WIDTH)[0], scratch(eps, 1, MAX_WIDTH)[0], scratch(eps, 1, MAX_WIDTH)[0]
    grad, to_weight = scratch(eps, 1, MAX_WIDTH)[0], scratch(eps, 1, MAX_WIDTH)[0]
    one, width = type(eps)(1), type(eps)(d)
    for j in range(d):
        factor[j], to_weight[j] = 1, 0
    for t in range(first, last):
        x_row, grad_row, out = row_slice(x, t, 0, d), row_slice(grad_y, t, 0, d), row_slice(grad_x, t, 0, d)
        if gate[1]:
            gates, ahead = row_slice(gate, t, 0, d), row_slice(gate, t + AHEAD, 0, d)
            prefetch(address_of(ahead), d * ahead.itemsize)
            for j in range(d):
                number = widened(gates[j])
                half = sigmoid(number)
                factor[j], slope[j] = number * half, half * (one + number * (one - half))
        along = type(eps)(0)
        for j in range(d):
            value[j] = widened(x_row[j])
            normed_value, gradient = value[j] * factor[j] * scales[t], widened(grad_row[j])
            to_weight[j] += gradient * normed_value
            grad[j] = gradient * weights[j]
            along += grad[j] * normed_value
        along /= width
        for j in range(d):
            grad[j] = (grad[j] - along * value[j] * factor[j] * scales[t]) * scales[t]
            out[j] = narrowed(grad[j] * factor[j], out)
        if gate[1]:
            to_gate = row_slice(grad_gate, t, 0, d)
            for j in range(d):
                to_gate[j] = narrowed(grad[j] * value[j] * slope[j], to_gate)
    row = row_slice(grad_weight, worker, 0, d)
    for j in range(d):
        row[j] = to_weight[j]
