"""The compiled loops of the norm over a range of positions: `(worker, first, last, ...)`.

No gate is address 0, or an array of no rows.
"""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.native import at, compiled


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
def norm(worker, first, last, num_positions, d, eps, x, weight, gate, y, scale):
    """All at addresses, and of the type of eps. The factor of each position goes to `scale`, if that is not 0."""
    shape = (num_positions, d)
    x, y, gate = at(x, eps, shape), at(y, eps, shape), at(gate, eps, shape if gate else (0, d))
    weight, scales = at(weight, eps, (d,)), at(scale, eps, (num_positions if scale else 0,))
    v = np.empty(d, x.dtype)
    for t in range(first, last):
        for j in range(d):
            v[j] = x[t, j]
        if len(gate):
            for j in range(d):
                v[j] *= gate[t, j] * sigmoid(gate[t, j])
        squares = x.dtype.type(0)
        for j in range(d):
            squares += v[j] * v[j]
        factor = 1 / np.sqrt(squares / d + eps)
        if scale:
            scales[t] = factor
        for j in range(d):
            y[t, j] = v[j] * factor * weight[j]


@no_type_check
@compiled
def norm_backwards(worker, first, last, grad_y, x, weight, gate, scale, grad_x, grad_weight, grad_gate):
    d = len(weight)
    normed, factor, grad = np.empty(d, x.dtype), np.empty(d, x.dtype), np.empty(d, x.dtype)
    to_weight = np.zeros(d, x.dtype)
    for t in range(first, last):
        for j in range(d):
            factor[j] = gate[t, j] * sigmoid(gate[t, j]) if len(gate) else 1
            normed[j] = x[t, j] * factor[j] * scale[t]
        along = x.dtype.type(0)
        for j in range(d):
            to_weight[j] += grad_y[t, j] * normed[j]
            grad[j] = grad_y[t, j] * weight[j]
            along += grad[j] * normed[j]
        along /= d
        for j in range(d):
            grad[j] = (grad[j] - along * normed[j]) * scale[t]
            grad_x[t, j] = grad[j] * factor[j]
        if len(gate):
            for j in range(d):
                half = sigmoid(gate[t, j])
                grad_gate[t, j] = grad[j] * x[t, j] * half * (1 + gate[t, j] * (1 - half))
    for j in range(d):
        grad_weight[worker, j] = to_weight[j]
