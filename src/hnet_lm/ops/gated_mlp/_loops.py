"""The compiled loop of few positions."""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import multiply_at
from hnet_lm.ops.native import START, at, compiled
from hnet_lm.ops.rms_norm._loops import normed


@no_type_check  # of Python: numba has types of its own
@compiled
def whole(num_positions, d, f, one, x, pre_norm, eps, one_1, fc1, scale_1, one_2, fc2, scale_2, out):
    """All at addresses, behind a norm; at 0 there is no norm, or no scale."""
    y_gate, product = np.empty((num_positions, 2 * f), type(one)), np.empty((num_positions, f), type(one))
    multiply_at(START, 2 * f, normed(at(x, one, (num_positions, d)), pre_norm, eps), one_1, fc1, scale_1, y_gate)
    for t in range(num_positions):
        for j in range(f):
            gate = y_gate[t, f + j]
            product[t, j] = y_gate[t, j] * gate * sigmoid(gate)
    multiply_at(START, d, product, one_2, fc2, scale_2, at(out, one, (num_positions, d)))
