"""The ops one after the other."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.linear import linear
from hnet_lm.ops.mamba2._state import Mamba2State
from hnet_lm.ops.mamba2._weights import Mamba2Weights
from hnet_lm.ops.rms_norm import PreNorm, pre_normed, product_dtype, rms_norm
from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences


def composed(
    backend: str,
    u: Tensor,
    weights: Mamba2Weights,
    eps: float,
    seqs: Sequences,
    state: Mamba2State | None,
    pre_norm: PreNorm | None,
) -> tuple[Tensor, Mamba2State | None]:
    conv_state, ssm_state = (None, None) if state is None else (state.conv, state.ssm)
    num_heads, d_inner, d_conv_in = len(weights.D), len(weights.norm), len(weights.conv)
    d_state = (d_conv_in - d_inner) // 2
    zxBCdt = linear(pre_normed(u, pre_norm, backend), weights.in_proj, backend=backend)
    z, xBC, dt = zxBCdt.split([d_inner, d_conv_in, num_heads], dim=-1)
    xBC, conv_state = causal_conv(xBC, weights.conv[:, 0], weights.conv_bias, seqs, conv_state, backend=backend)
    x, B, C = xBC.split([d_inner, d_state, d_state], dim=-1)
    wide = torch.promote_types(dt.dtype, torch.float32)
    dt = softplus(dt.to(wide) + weights.dt_bias.to(wide))
    A = -weights.A_log.to(wide).exp()
    x = x.unflatten(-1, (num_heads, -1))  # t h p
    y, ssm_state = ssd(x, dt, A, B, C, weights.D.to(wide), seqs, ssm_state, backend=backend)
    y = rms_norm(y.flatten(1), weights.norm, z, eps, dtype=product_dtype(weights.norm), backend=backend)
    out = linear(y, weights.out_proj, backend=backend)
    return out, None if conv_state is None or ssm_state is None else Mamba2State(conv_state, ssm_state)
