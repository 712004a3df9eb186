"""The compiled loops of the norm over a range of positions: `(worker, first, last, ...)`; a gate of no rows is none."""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.native import compiled
from hnet_lm.ops.sigmoid import sigmoid


@no_type_check  # of Python: numba has types of its own
@compiled
def norm(worker, first, last, x, weight, gate, eps, y, scale):
    d = len(weight)
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
        scale[t] = 1 / np.sqrt(squares / d + eps)
        for j in range(d):
            y[t, j] = v[j] * scale[t] * weight[j]


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
