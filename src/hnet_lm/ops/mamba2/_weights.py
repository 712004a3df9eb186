"""The weights of a Mamba-2 mixer."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.linear import LinearWeight


class Mamba2Weights(NamedTuple):
    """Of widths d_model, d (inside), n (state), h heads, w taps; d_conv = d + 2n; shaped as in torch's modules."""

    in_proj: LinearWeight  # d + d_conv + h, d_model
    conv: Float[Tensor, "d_conv 1 w"]
    conv_bias: Float[Tensor, " d_conv"]
    dt_bias: Float[Tensor, " h"]
    A_log: Float[Tensor, " h"]
    D: Float[Tensor, " h"]
    norm: Float[Tensor, " d"]
    out_proj: LinearWeight  # d_model, d
