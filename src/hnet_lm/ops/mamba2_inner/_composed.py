"""The three ops one after the other."""

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences


def composed(
    backend: str,
    zxBCdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    seqs: Sequences,
    conv_state: Tensor | None,
    ssm_state: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    num_heads, d_inner, d_conv_in = len(D), len(norm_weight), len(conv_weight)
    d_state = (d_conv_in - d_inner) // 2
    z, xBC, dt = zxBCdt.split([d_inner, d_conv_in, num_heads], dim=-1)
    xBC, conv_state = causal_conv(xBC, conv_weight, conv_bias, seqs, conv_state, backend=backend)
    x, B, C = xBC.split([d_inner, d_state, d_state], dim=-1)
    wide = torch.promote_types(dt.dtype, torch.float32)
    dt = softplus(dt.to(wide) + dt_bias.to(wide))
    A = -A_log.to(wide).exp()
    x = x.unflatten(-1, (num_heads, -1))  # t h p
    y, ssm_state = ssd(x, dt, A, B, C, D.to(wide), seqs, ssm_state, backend=backend)
    return rms_norm(y.flatten(1), norm_weight, z, eps, backend=backend), conv_state, ssm_state
