"""The parts one after the other, each on the backend that is chosen or preferred for it."""

import torch
from torch import Tensor

from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.mamba2._parts import through_parts
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.sequences import Sequences


def mamba2(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    seqs: Sequences,
    dtype: torch.dtype,
    *,
    backend: str | None = None,
) -> Tensor:
    y, _ = through_parts(
        zxbcdt,
        lambda xBC, seqs, state: causal_conv(xBC, conv_weight, conv_bias, seqs, state, backend=backend),
        dt_bias,
        A_log,
        D,
        lambda y, z: rms_norm(y, norm_weight, eps, z, dtype=dtype, backend=backend),
        seqs,
        d_state=(len(conv_weight) - len(norm_weight)) // 2,
        backend=backend,
    )
    return y
