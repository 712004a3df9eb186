"""Mamba-2 (Dao and Gu, arXiv 2405.21060): a gated selective state space model with a scalar decay per head.

[z, x, B, C, dt] = W_in u        x, B, C = silu(conv(x, B, C))        dt = softplus(dt + dt_bias)
h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T,  y_t = C_t h_t + D x_t,  out = W_out rmsnorm(y * silu(z))

Between the projections, sequences that begin in this call go through one op. Where a state is carried, and where the
convolution or the norm is watched by a hook or has been replaced, these modules are called.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import MAMBA2_HEAD_DIM
from hnet_lm.model.layers import CausalConv, RMSNorm
from hnet_lm.model.written import is_as_written
from hnet_lm.ops.mamba2 import mamba2, through_parts
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import Mamba2Config
from hnet_lm.state import State, consumed


@dataclass
class Mamba2State(State):
    """The last inputs of the convolution and the matrix h of every head: of one size, however long the sequence."""

    conv: Float[Tensor, "s w_minus_1 d_conv"]
    ssm: Float[Tensor, "s n h p"]


class Mamba2(nn.Module):
    """State: the last inputs of the convolution and the matrix h of every head (`Mamba2State`)."""

    def __init__(self, d_model: int, config: Mamba2Config):
        super().__init__()
        self.d_inner = config.expand * d_model
        self.d_state = config.d_state
        self.num_heads = self.d_inner // MAMBA2_HEAD_DIM
        d_conv_in = self.d_inner + 2 * self.d_state
        self.in_proj = nn.Linear(d_model, self.d_inner + d_conv_in + self.num_heads, bias=False)
        self.conv = CausalConv(d_conv_in, config.d_conv)
        self.dt_bias = nn.Parameter(torch.empty(self.num_heads))
        self.A_log = nn.Parameter(torch.empty(self.num_heads))
        self.D = nn.Parameter(torch.ones(self.num_heads))
        self.norm = RMSNorm(self.d_inner, feeds_linear=True)
        self.out_proj = nn.Linear(self.d_inner, d_model, bias=False)

    def forward(
        self, u: Float[Tensor, "t d"], seqs: Sequences, state: Mamba2State | None = None
    ) -> tuple[Float[Tensor, "t d"], Mamba2State | None]:
        state = consumed(state, Mamba2State)
        zxbcdt, dynamics = self.in_proj(u), (self.dt_bias, self.A_log, self.D)
        if state is None and is_as_written(self.conv, CausalConv) and is_as_written(self.norm, RMSNorm):
            assert self.conv.bias is not None
            conv = self.conv.weight.squeeze(1), self.conv.bias
            norm, dtype = (self.norm.weight, self.norm.eps), self.norm.result_dtype(zxbcdt.device)
            return self.out_proj(mamba2(zxbcdt, *conv, *dynamics, *norm, seqs, dtype=dtype)), None
        states = state and (state.conv, state.ssm)
        y, states = through_parts(zxbcdt, self.conv, *dynamics, self.norm, seqs, states, d_state=self.d_state)
        return self.out_proj(y), states and Mamba2State(*states)

    def new_state(self, num_sequences: int, dtype: torch.dtype | None = None) -> Mamba2State:
        """`dtype` is that of the input; None: that of the weights."""
        weight = self.conv.weight
        dtype = dtype or weight.dtype
        past = self.conv.kernel_size[0] - 1
        wide = torch.promote_types(dtype, torch.float32)
        heads = (num_sequences, self.d_state, self.num_heads, MAMBA2_HEAD_DIM)
        return Mamba2State(
            conv=torch.zeros(num_sequences, past, self.conv.in_channels, dtype=dtype, device=weight.device),
            ssm=torch.zeros(heads, dtype=wide, device=weight.device),
        )
