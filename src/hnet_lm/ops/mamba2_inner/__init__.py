"""All of Mamba-2 between its two projections: convolution, selective scan, gate and norm as one operation.

[z, x, B, C, dt] of widths [d, d, n, n, h] come from the input projection; the result goes to the output projection:

    x, B, C = causal_conv(x, B, C)    y = ssd(x, softplus(dt + dt_bias), -exp(A_log), B, C, D)    rms_norm(y * silu(z))

It is composed of those three ops, and exists because a single position of each sequence is better done in one go.
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def mamba2_inner(
    zxBCdt: Float[Tensor, "t d_in"],
    conv_weight: Float[Tensor, "d_conv w"],
    conv_bias: Float[Tensor, " d_conv"],
    dt_bias: Float[Tensor, " h"],
    A_log: Float[Tensor, " h"],
    D: Float[Tensor, " h"],
    norm_weight: Float[Tensor, " d"],
    eps: float,
    seqs: Sequences,
    conv_state: Float[Tensor, "s w_minus_1 d_conv"] | None = None,
    ssm_state: Float[Tensor, "s n h p"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "s w_minus_1 d_conv"] | None, Float[Tensor, "s n h p"] | None]:
    """The normed y of every position, and both states."""
    function = _op.backend(backend, zxBCdt.device)
    return function(zxBCdt, conv_weight, conv_bias, dt_bias, A_log, D, norm_weight, eps, seqs, conv_state, ssm_state)
