"""The compiled loops: silu(gate) * y and its gradients over a range of positions; and few positions as a whole."""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import multiply_at
from hnet_lm.ops.native import START, at, compiled
from hnet_lm.ops.rms_norm._loops import normed


@no_type_check  # of Python: numba has types of its own
@compiled
def gate(worker, first, last, y_gate, product):
    """Of [y, gate]."""
    f = product.shape[1]
    for t in range(first, last):
        for j in range(f):
            z = y_gate[t, f + j]
            product[t, j] = y_gate[t, j] * z * sigmoid(z)


@no_type_check
@compiled
def gate_backwards(worker, first, last, grad, y_gate, to_y_gate):
    f = grad.shape[1]
    for t in range(first, last):
        for j in range(f):
            z = y_gate[t, f + j]
            half = sigmoid(z)
            to_y_gate[t, j] = grad[t, j] * z * half
            to_y_gate[t, f + j] = grad[t, j] * y_gate[t, j] * half * (1 + z * (1 - half))


@no_type_check
@compiled
def whole(num_positions, d, f, one, x, pre_norm, eps, one_1, fc1, scale_1, one_2, fc2, scale_2, out):
    """All of the MLP, behind a norm, at addresses; at 0 there is no norm, or no scale."""
    y_gate, product = np.empty((num_positions, 2 * f), type(one)), np.empty((num_positions, f), type(one))
    multiply_at(START, 2 * f, normed(at(x, one, (num_positions, d)), pre_norm, eps), one_1, fc1, scale_1, y_gate)
    gate(START, START, num_positions, y_gate, product)
    multiply_at(START, d, product, one_2, fc2, scale_2, at(out, one, (num_positions, d)))
