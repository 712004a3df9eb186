"""Both halves at once."""

import torch
from torch import Tensor

from hnet_lm.ops.rotary import BASE


def rotary(x: Tensor, positions: Tensor, dim: int) -> Tensor:
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    frequencies = BASE ** (-torch.arange(0, dim, 2, dtype=wide, device=x.device) / dim)  # dim/2, radians per position
    angles = positions[:, None].to(wide) * frequencies  # t dim/2
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second, rest = x.split([dim // 2, dim // 2, x.shape[-1] - dim], dim=-1)
    rotated = [first * cos - second * sin, first * sin + second * cos]
    return torch.cat([part.to(x.dtype) for part in rotated] + [rest], dim=-1)
