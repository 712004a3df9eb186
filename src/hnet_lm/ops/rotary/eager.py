"""Both halves at once."""

import torch
from torch import Tensor


def rotary(
    x: Tensor, positions: Tensor, dim: int, base: float, frequencies: tuple[float, ...] | None, magnitude: float
) -> Tensor:
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    if frequencies is None:
        per_position = base ** (-torch.arange(0, dim, 2, dtype=wide, device=x.device) / dim)  # dim/2, radians
    else:
        per_position = torch.tensor(frequencies, dtype=wide, device=x.device)
    angles = positions[:, None].to(wide) * per_position  # t dim/2
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    if magnitude != 1:
        cos, sin = cos * magnitude, sin * magnitude
    first, second, rest = x.split([dim // 2, dim // 2, x.shape[-1] - dim], dim=-1)
    rotated = [first * cos - second * sin, first * sin + second * cos]
    return torch.cat([part.to(x.dtype) for part in rotated] + [rest], dim=-1)
