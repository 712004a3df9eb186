"""The small layers: RMS norm, gated MLP, rotary position embedding, widening between stages."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import linear, silu

from hnet_lm.ops import rms_norm

NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-5) * weight, in at least float32; the result has the weight's type."""

    def __init__(self, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        return rms_norm(x, self.weight, None, NORM_EPS)


class GatedMLP(nn.Module):
    """fc1 gives [y, gate]; fc2(silu(gate) * y)."""

    def __init__(self, d_model: int, d_intermediate: int):
        super().__init__()
        self.fc1 = nn.Linear(d_model, 2 * d_intermediate, bias=False)
        self.fc2 = nn.Linear(d_intermediate, d_model, bias=False)

    def forward(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        y, gate = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(silu(gate) * y)


class Float32Linear(nn.Linear):
    """A linear map with bias in at least float32, whatever the type of the model around it and the autocast."""

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        with torch.autocast(x.device.type, enabled=False):
            wide = torch.promote_types(self.weight.dtype, torch.float32)
            assert self.bias is not None
            return linear(x.to(wide), self.weight.to(wide), self.bias.to(wide))


class Widen(nn.Module):
    """Entering a wider stage: one learned vector, shared by all positions, is appended."""

    def __init__(self, d_from: int, d_to: int):
        super().__init__()
        self.pad_vector = nn.Parameter(torch.zeros(d_to - d_from)) if d_to > d_from else None

    def forward(self, x: Float[Tensor, "t d_from"]) -> Float[Tensor, "t d_to"]:
        if self.pad_vector is None:
            return x
        return torch.cat([x, self.pad_vector.to(x.dtype).expand(len(x), -1)], dim=-1)


def apply_rotary(x: Float[Tensor, "t h p"], positions: Int[Tensor, " t"], dim: int) -> Float[Tensor, "t h p"]:
    """Rotate the first `dim` entries of every head by position (base 10000, non-interleaved halves; RoPE)."""
    if dim == 0:
        return x
    wide = torch.promote_types(x.dtype, torch.float32)
    frequencies = 10000.0 ** (-torch.arange(0, dim, 2, dtype=wide, device=x.device) / dim)
    angles = positions[:, None].to(wide) * frequencies  # t dim/2
    cos, sin = angles.cos()[:, None], angles.sin()[:, None]
    first, second, rest = x.split([dim // 2, dim // 2, x.shape[-1] - dim], dim=-1)
    rotated = [first * cos - second * sin, first * sin + second * cos]
    return torch.cat([part.to(x.dtype) for part in rotated] + [rest], dim=-1)
