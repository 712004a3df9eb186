"""The small layers: RMS norm, gated MLP, causal convolution, widening between stages."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.swiglu import swiglu
from hnet_lm.sequences import Sequences

NORM_EPS = 1e-5


class RMSNorm(nn.Module):
    """v / sqrt(mean(v^2) + eps) * weight, v = x or x * silu(gate), in at least float32.

    The result has the weight's type. Where it `feeds_linear`, which rounds its input to the type of an autocast, it has
    that type at once.
    """

    def __init__(self, d_model: int, *, feeds_linear: bool = False, eps: float = NORM_EPS):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d_model))
        self.eps = eps
        self.feeds_linear = feeds_linear

    def forward(self, x: Float[Tensor, "t d"], gate: Float[Tensor, "t d"] | None = None) -> Float[Tensor, "t d"]:
        return rms_norm(x, self.weight, self.eps, gate, dtype=self.result_dtype(x.device))

    def result_dtype(self, device: torch.device) -> torch.dtype:
        if self.feeds_linear and torch.is_autocast_enabled(device.type):
            return torch.get_autocast_dtype(device.type)
        return self.weight.dtype


class GatedMLP(nn.Module):
    """fc1 gives [y, gate]; fc2(silu(gate) * y)."""

    def __init__(self, d_model: int, d_intermediate: int):
        super().__init__()
        self.fc1 = nn.Linear(d_model, 2 * d_intermediate, bias=False)
        self.fc2 = nn.Linear(d_intermediate, d_model, bias=False)

    def forward(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        y, gate = self.fc1(x).chunk(2, dim=-1)  # t f
        return self.fc2(swiglu(y, gate))


class CausalConv(nn.Conv1d):
    """silu of a depthwise causal convolution along each sequence. State: the last w-1 inputs."""

    def __init__(self, num_channels: int, width: int):
        super().__init__(num_channels, num_channels, width, groups=num_channels)

    def forward(  # pyright: ignore[reportIncompatibleMethodOverride]  packed rows, not (batch, channels, length)
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: Float[Tensor, "s w_minus_1 d"] | None = None
    ) -> tuple[Float[Tensor, "t d"], Float[Tensor, "s w_minus_1 d"] | None]:
        assert self.bias is not None
        return causal_conv(x, self.weight.squeeze(1), self.bias, seqs, state)


class Float32Linear(nn.Linear):
    """A linear map with bias in at least float32, whatever the type of the model around it and the autocast."""

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        with torch.autocast(x.device.type, enabled=False):
            return nn.functional.linear(x.to(wide), self.weight.to(wide), self.bias.to(wide))


class NoConnection(nn.Module):
    """0 of every position, in a residual connection's place."""

    def forward(self, x: Float[Tensor, "t d"]) -> Float[Tensor, "t d"]:
        return torch.zeros_like(x)


class Widen(nn.Module):
    """Entering a wider stage: one learned vector, shared by all positions, is appended."""

    def __init__(self, d_from: int, d_to: int):
        super().__init__()
        self.pad_vector = nn.Parameter(torch.zeros(d_to - d_from)) if d_to > d_from else None

    def forward(self, x: Float[Tensor, "t d_from"]) -> Float[Tensor, "t d_to"]:
        if self.pad_vector is None:
            return x
        return torch.cat([x, self.pad_vector.to(x.dtype).expand(len(x), -1)], dim=-1)
