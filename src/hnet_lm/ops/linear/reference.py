"""The formula."""

import torch
from torch import Tensor

from hnet_lm.ops.linear._weight import LinearWeight, RoundedWeight


def linear(x: Tensor, weight: LinearWeight) -> Tensor:
    if isinstance(weight, RoundedWeight):
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        weight = weight.to_float(x.dtype)
    return (weight * x[:, None]).sum(-1)
