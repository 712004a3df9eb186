"""The small layers: RMS norm, gated MLP, linear maps, widening between stages."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.ops import MLPLayer, PreNorm, gated_mlp, linear, rms_norm

NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + 1e-5) * weight, in at least float32; the result has the weight's type."""

    def __init__(self, d_model: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))

    def forward(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        return rms_norm(x, self.weight, None, NORM_EPS)

    @property
    def as_pre_norm(self) -> PreNorm:
        """For an op that does the norm itself."""
        weight: Any = self._parameters["weight"]
        return PreNorm(weight, NORM_EPS)


class Linear(nn.Linear):
    """W x, without bias."""

    def __init__(self, d_in: int, d_out: int):
        super().__init__(d_in, d_out, bias=False)

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        return linear(x, self.weight)


class GatedMLP(nn.Module):
    """fc1 gives [y, gate]; fc2(silu(gate) * y)."""

    def __init__(self, d_model: int, d_intermediate: int):
        super().__init__()
        self.fc1 = Linear(d_model, 2 * d_intermediate)
        self.fc2 = Linear(d_intermediate, d_model)

    def forward(self, x: Float[Tensor, "t d"], norm: RMSNorm | None = None) -> Float[Tensor, "t d"]:
        """Of norm(x), where a norm is given."""
        return gated_mlp(x, self.fc1.weight, self.fc2.weight, pre_norm=norm and norm.as_pre_norm)

    def layer(self, norm: RMSNorm) -> MLPLayer:
        return MLPLayer(norm.as_pre_norm, self.fc1.weight, self.fc2.weight)


class Float32Linear(nn.Linear):
    """A linear map with bias in at least float32, whatever the type of the model around it and the autocast."""

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        if not torch.is_autocast_enabled(x.device.type):
            return self._product(x)
        with torch.autocast(x.device.type, enabled=False):
            return self._product(x)

    def _product(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        weight, bias = self.weight, self.bias
        wide = torch.promote_types(weight.dtype, torch.float32)
        assert bias is not None
        return linear(x.to(wide), weight.to(wide)) + bias.to(wide)


class Widen(nn.Module):
    """Entering a wider stage: one learned vector, shared by all positions, is appended."""

    def __init__(self, d_from: int, d_to: int):
        super().__init__()
        self.pad_vector = nn.Parameter(torch.zeros(d_to - d_from)) if d_to > d_from else None

    def forward(self, x: Float[Tensor, "t d_from"]) -> Float[Tensor, "t d_to"]:
        if self.pad_vector is None:
            return x
        return torch.cat([x, self.pad_vector.to(x.dtype).expand(len(x), -1)], dim=-1)
