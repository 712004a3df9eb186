"""Rotary position embedding (Su et al., arXiv 2104.09864): base 10000, non-interleaved halves."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

BASE = 10000.0


def rotary_frequencies(dim: int, dtype: torch.dtype, device: torch.device) -> Float[Tensor, " half_dim"]:
    """Radians a position, for each pair of entries."""
    return BASE ** (-torch.arange(0, dim, 2, dtype=dtype, device=device) / dim)


def apply_rotary(x: Float[Tensor, "t h p"], positions: Int[Tensor, " t"], dim: int) -> Float[Tensor, "t h p"]:
    """Rotate the first `dim` entries of every head by position."""
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    angles = positions[:, None].to(wide) * rotary_frequencies(dim, wide, x.device)  # t dim/2
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second, rest = x.split([dim // 2, dim // 2, x.shape[-1] - dim], dim=-1)
    rotated = [first * cos - second * sin, first * sin + second * cos]
    return torch.cat([part.to(x.dtype) for part in rotated] + [rest], dim=-1)
