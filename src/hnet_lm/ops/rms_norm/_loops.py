"""The compiled loops of the norm over a range of positions: `(worker, first, last, ...)`.

Matrices are `native.rows`, of which no gate has address 0; what is one number a column or a position is at an address,
in the type of eps, which is also the type that is computed in.
"""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.bfloat16 import narrowed, widened
from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.native import WIDEST, at, compiled, part, scratch


@no_type_check  # of Python: numba has types of its own
@compiled
def normed(x, weight, eps):
    """The plain norm of all positions, with its weight at an address; at 0 there is no norm, and x is returned."""
    if not weight:
        return x
    num_positions, d = x.shape
    y, weights = np.empty((num_positions, d), type(eps)), at(weight, eps, (d,))
    for t in range(num_positions):
        squares = type(eps)(0)
        for j in range(d):
            squares += x[t, j] * x[t, j]
        factor = 1 / np.sqrt(squares / d + eps)
        for j in range(d):
            y[t, j] = x[t, j] * factor * weights[j]
    return y


@no_type_check
@compiled
def norm(worker, first, last, d, eps, x, weight, gate, y, scale):
    """The factor of each position goes to `scale`, if that is not 0."""
    weights, scales = at(weight, eps, (d,)), at(scale, eps, (last if scale else 0,))
    v = scratch(eps, 1, WIDEST)[0]
    for t in range(first, last):
        row, out = part(x, t, 0, d), part(y, t, 0, d)
        for j in range(d):
            v[j] = widened(row[j])
        if gate[1]:
            gates = part(gate, t, 0, d)
            for j in range(d):
                v[j] *= widened(gates[j]) * sigmoid(widened(gates[j]))
        squares = type(eps)(0)
        for j in range(d):
            squares += v[j] * v[j]
        factor = 1 / np.sqrt(squares / d + eps)
        if scale:
            scales[t] = factor
        for j in range(d):
            out[j] = narrowed(v[j] * factor * weights[j], out)


@no_type_check
@compiled
def norm_backwards(worker, first, last, d, eps, grad_y, x, weight, gate, scale, grad_x, grad_weight, grad_gate):
    """The gradient to the weight is the worker's share: one of the rows of `grad_weight`."""
    weights, scales = at(weight, eps, (d,)), at(scale, eps, (last,))
    value, factor, slope = scratch(eps, 1, WIDEST)[0], scratch(eps, 1, WIDEST)[0], scratch(eps, 1, WIDEST)[0]
    grad, to_weight = scratch(eps, 1, WIDEST)[0], scratch(eps, 1, WIDEST)[0]
    for j in range(d):
        factor[j], to_weight[j] = 1, 0
    for t in range(first, last):
        x_row, grad_row, out = part(x, t, 0, d), part(grad_y, t, 0, d), part(grad_x, t, 0, d)
        if gate[1]:
            gates = part(gate, t, 0, d)
            for j in range(d):
                number = widened(gates[j])
                half = sigmoid(number)
                factor[j], slope[j] = number * half, half * (1 + number * (1 - half))
        along = type(eps)(0)
        for j in range(d):
            value[j] = widened(x_row[j])
            normed_value, gradient = value[j] * factor[j] * scales[t], widened(grad_row[j])
            to_weight[j] += gradient * normed_value
            grad[j] = gradient * weights[j]
            along += grad[j] * normed_value
        along /= d
        for j in range(d):
            grad[j] = (grad[j] - along * value[j] * factor[j] * scales[t]) * scales[t]
            out[j] = narrowed(grad[j] * factor[j], out)
        if gate[1]:
            to_gate = part(grad_gate, t, 0, d)
            for j in range(d):
                to_gate[j] = narrowed(grad[j] * value[j] * slope[j], to_gate)
    row = part(grad_weight, worker, 0, d)
    for j in range(d):
        row[j] = to_weight[j]
