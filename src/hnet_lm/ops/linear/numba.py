"""Some positions: weights read as they lie, outputs shared by a team; many are left to torch's product.

For few positions torch's product reads weights at a third of the speed of this loop (float32, from the last cache).
"""

import torch
from torch import Tensor

from hnet_lm.ops.linear._loops import product_job, share_product_at
from hnet_lm.ops.linear._weight import LinearWeight, RoundedWeight
from hnet_lm.ops.linear.torch import linear as many_positions
from hnet_lm.ops.native import ONE, is_watched
from hnet_lm.ops.team import team

SOME = 256
"""Positions up to which the compiled loop is used; it was never the slower one."""


def linear(x: Tensor, weight: LinearWeight) -> Tensor:
    x = x.contiguous()
    if x.shape[0] > SOME or not is_ready(x, weight) or is_watched(x, weight):
        return many_positions(x, weight)
    y = x.new_empty(x.shape[0], weight.shape[0])
    places = x.data_ptr(), *operand(x, weight), y.data_ptr()
    share_product_at(team(), ONE[x.dtype], *x.shape, weight.shape[0], *places)
    return y


def is_ready(x: Tensor, weight: LinearWeight) -> bool:
    """Whether loops can do this product: not in a narrow type, nor with weights of another type or with gaps."""
    matrix, scale = weight if isinstance(weight, RoundedWeight) else (weight, None)
    if x.dtype.itemsize < torch.float32.itemsize or weight.dtype != x.dtype or not matrix.is_contiguous():
        return False
    return scale is None or scale.is_contiguous()


def operand(x: Tensor, weight: LinearWeight) -> tuple[int, int, int]:
    """What loops take of a weight that is ready: the product with it, the addresses of matrix and scale (0: none)."""
    matrix, scale = weight if isinstance(weight, RoundedWeight) else (weight, None)
    return product_job(x.dtype, matrix.dtype), matrix.data_ptr(), 0 if scale is None else scale.data_ptr()
