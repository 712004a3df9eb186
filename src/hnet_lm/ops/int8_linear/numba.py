"""Weights turned to floats in registers, on the way from memory to the product; a range of outputs a thread.

That costs some arithmetic each time, so many positions are multiplied by torch, with floats made once.
"""

import torch
from torch import Tensor

from hnet_lm.ops.int8_linear._loops import product
from hnet_lm.ops.int8_linear.torch import int8_linear as many_positions
from hnet_lm.ops.native import array, ranges, run

FEW = 32
"""Positions up to which the compiled loop is faster (measured for widths of 256 to 1024)."""
LANES = 8
"""Multiplications in one instruction, at least: a range of outputs is done sooner than its number of them says."""


def int8_linear(x: Tensor, weight: Tensor, scale: Tensor) -> Tensor:
    if len(x) > FEW:
        return many_positions(x, weight, scale)
    num_positions, (d_out, d_in) = len(x), weight.shape
    if x.dtype.itemsize < torch.float32.itemsize:
        x = x.float()
    y = torch.empty(num_positions, d_out, dtype=x.dtype)
    run(product, ranges(d_out, num_positions * d_in // LANES), *map(array, (x, weight, scale, y)))
    return y
