"""torch's matrix product. Rounded weights are turned to floats first: right where many positions share the turning."""

import torch
from torch import Tensor
from torch.nn.functional import linear as product

from hnet_lm.ops.linear._weight import LinearWeight, RoundedWeight


def linear(x: Tensor, weight: LinearWeight) -> Tensor:
    if not isinstance(weight, RoundedWeight):
        return product(x, weight)
    wide = torch.promote_types(x.dtype, torch.float32)
    y = product(x.to(wide), weight.numbers.to(wide))
    return y if weight.scale is None else y * weight.scale.to(wide)
