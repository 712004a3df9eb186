"""Pair by pair."""

import math

import torch
from torch import Tensor

from hnet_lm.ops.rotary import BASE


def rotary(x: Tensor, positions: Tensor, dim: int) -> Tensor:
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    columns = list(x.to(wide).unbind(-1))  # t h
    for i in range(dim // 2):
        angle = positions.to(wide)[:, None] * math.exp(-2 * i / dim * math.log(BASE))
        first, second = columns[i], columns[i + dim // 2]
        columns[i] = first * angle.cos() - second * angle.sin()
        columns[i + dim // 2] = first * angle.sin() + second * angle.cos()
    return torch.stack(columns, -1).to(x.dtype)
