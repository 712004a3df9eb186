"""Pair by pair."""

import math

import torch
from torch import Tensor


def rotary(
    x: Tensor, positions: Tensor, dim: int, base: float, frequencies: tuple[float, ...] | None, magnitude: float
) -> Tensor:
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    columns = list(x.to(wide).unbind(-1))  # t h
    for i in range(dim // 2):
        frequency = math.exp(-2 * i / dim * math.log(base)) if frequencies is None else frequencies[i]
        angle = positions.to(wide)[:, None] * frequency
        first, second = magnitude * columns[i], magnitude * columns[i + dim // 2]
        columns[i] = first * angle.cos() - second * angle.sin()
        columns[i + dim // 2] = first * angle.sin() + second * angle.cos()
    return torch.stack(columns, -1).to(x.dtype)
