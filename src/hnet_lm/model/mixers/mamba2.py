"""Mamba-2 (Dao and Gu, arXiv 2405.21060): a gated selective state space model with a scalar decay a head.

[z, x, B, C, dt] = W_in u        x, B, C = silu(conv(x, B, C))        dt = softplus(dt + dt_bias)
h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T,  y_t = C_t h_t + D x_t,  out = W_out rmsnorm(y * silu(z))
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import MAMBA2_HEAD_DIM, Mamba2Config
from hnet_lm.model.layers import NORM_EPS, Linear, RMSNorm
from hnet_lm.ops import Mamba2Layer, Mamba2State, Mamba2Weights, mamba2
from hnet_lm.sequences import Sequences


class Mamba2(nn.Module):
    """State: the last inputs of the convolution and the matrix h of every head (`Mamba2State`)."""

    def __init__(self, d_model: int, config: Mamba2Config):
        super().__init__()
        self.d_inner = config.expand * d_model
        self.d_state = config.d_state
        self.num_heads = self.d_inner // MAMBA2_HEAD_DIM
        d_conv_in = self.d_inner + 2 * config.d_state
        self.in_proj = Linear(d_model, self.d_inner + d_conv_in + self.num_heads)
        self.conv = nn.Conv1d(d_conv_in, d_conv_in, config.d_conv, groups=d_conv_in)
        self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm = RMSNorm(self.d_inner)
        self.out_proj = Linear(self.d_inner, d_model)

    def forward(
        self,
        u: Float[Tensor, "t d"],
        seqs: Sequences,
        state: Mamba2State | None = None,
        norm: RMSNorm | None = None,
    ) -> tuple[Float[Tensor, "t d"], Mamba2State | None]:
        """Of norm(u), where a norm is given."""
        return mamba2(u, self.weights(), NORM_EPS, seqs, state, pre_norm=norm and norm.as_pre_norm)

    def layer(self, norm: RMSNorm) -> Mamba2Layer:
        return Mamba2Layer(norm.as_pre_norm, self.weights(), NORM_EPS)

    def weights(self) -> Mamba2Weights:
        """All of them, from where torch keeps them: asked as attributes, at 2 us each, they would take half a step."""
        modules: dict[str, Any] = self._modules
        own: dict[str, Any] = self._parameters
        conv = modules["conv"]._parameters
        return Mamba2Weights(
            modules["in_proj"].weight,
            conv["weight"],
            conv["bias"],
            own["dt_bias"],
            own["A_log"],
            own["D"],
            modules["norm"].weight,
            modules["out_proj"].weight,
        )

    def new_state(self, num_sequences: int) -> Mamba2State:
        weight = self.conv.weight
        past = self.conv.kernel_size[0] - 1
        wide = torch.promote_types(weight.dtype, torch.float32)
        heads = (num_sequences, self.d_state, self.num_heads, MAMBA2_HEAD_DIM)
        return Mamba2State(
            conv=torch.zeros(num_sequences, past, self.conv.in_channels, dtype=weight.dtype, device=weight.device),
            ssm=torch.zeros(heads, dtype=wide, device=weight.device),
        )
