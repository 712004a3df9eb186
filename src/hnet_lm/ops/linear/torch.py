"""torch's matrix product. Integers are turned to floats first: right where many positions share the turning."""

import torch
from torch import Tensor
from torch.nn.functional import linear as product

from hnet_lm.ops.linear._weight import Int8Weight, LinearWeight


def linear(x: Tensor, weight: LinearWeight) -> Tensor:
    if not isinstance(weight, Int8Weight):
        return product(x, weight)
    wide = torch.promote_types(x.dtype, torch.float32)
    return product(x.to(wide), weight.integers.to(wide)) * weight.scale.to(wide)
