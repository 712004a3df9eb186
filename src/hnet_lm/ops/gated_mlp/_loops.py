"""The compiled loop of some positions."""

from functools import cache
from typing import no_type_check

import numpy as np
import torch

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.linear._loops import share_product
from hnet_lm.ops.native import ONE, at
from hnet_lm.ops.one_call import from_bits, hand_over
from hnet_lm.ops.rms_norm._loops import normed
from hnet_lm.ops.team import job, numbers


@cache
def mlp_job(dtype: torch.dtype) -> int:
    """All of the MLP; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check  # of Python: numba has types of its own
    def mlp(arguments, team, _):
        (
            x, out, norm, eps, multiply_1, fc1, scale_1, multiply_2, fc2, scale_2, num_positions, d, f,
        ) = numbers(arguments, 13)  # fmt: skip
        y_gate, product = np.empty((num_positions, 2 * f), type(one)), np.empty((num_positions, f), type(one))
        result = np.empty((num_positions, d), type(one))
        rows = normed(at(x, one, (num_positions, d)), norm, from_bits(eps, one))
        share_product(team, multiply_1, rows, fc1, scale_1, y_gate)
        for t in range(num_positions):
            for j in range(f):
                gate = y_gate[t, f + j]
                product[t, j] = y_gate[t, j] * gate * sigmoid(gate)
        share_product(team, multiply_2, product, fc2, scale_2, result)
        hand_over(result, x, out)

    return mlp
