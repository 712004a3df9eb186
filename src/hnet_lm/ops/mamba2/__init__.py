"""What a Mamba-2 mixer does between its two projections, as one op for sequences that begin in this call:

    [z, x, B, C, dt] = zxbcdt        x, B, C = silu(conv(x, B, C))        dt = softplus(dt + dt_bias)
    h_t = exp(-dt_t exp(A_log)) h_{t-1} + dt_t B_t x_t^T        y = rmsnorm((C_t h_t + D x_t) * silu(z))

It is made of the ops `causal_conv`, `ssd` and `rms_norm`, and gives what these give one after the other
(`through_parts`); where a backend of one of them is chosen by name, they are what runs. As one op it reads its inputs
side by side as the projection wrote them, writes their gradients into one matrix of that shape, and may compute again
in the backward pass what it has not kept. Dao and Gu, arXiv 2405.21060.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import (
    FLOATING,
    require_eps,
    require_floating,
    require_rows,
    require_same_type,
    require_shape,
)
from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.mamba2._parts import through_parts
from hnet_lm.sequences import Sequences

__all__ = ["mamba2", "through_parts"]

_op = Op(__name__, parts=("causal_conv", "ssd", "rms_norm"))


def mamba2(
    zxbcdt: Float[Tensor, "t d_in"],
    conv_weight: Float[Tensor, "d_conv w"],
    conv_bias: Float[Tensor, " d_conv"],
    dt_bias: Float[Tensor, " h"],
    A_log: Float[Tensor, " h"],
    D: Float[Tensor, " h"],
    norm_weight: Float[Tensor, " d"],
    eps: float,
    seqs: Sequences,
    *,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Float[Tensor, "t d"]:
    """y of every position, of this type or of that of the norm's weight.

    z and x have d columns each, dt has h, and B and C have half each of what is left. Computed in at least float32.
    Raises ValueError for shapes and types that do not fit.
    """
    weights = {"conv_weight": conv_weight, "conv_bias": conv_bias, "dt_bias": dt_bias, "A_log": A_log, "D": D}
    require_floating("mamba2", zxbcdt=zxbcdt, norm_weight=norm_weight, **weights)
    require_same_type("mamba2", conv_weight=conv_weight, conv_bias=conv_bias)
    require_eps("mamba2", eps)
    dtype = norm_weight.dtype if dtype is None else dtype
    if dtype not in FLOATING:
        raise ValueError(f"mamba2: dtype must be a floating-point type of 16 bits or more, not {dtype}")
    if (zxbcdt.dtype == torch.float64) != (norm_weight.dtype == torch.float64):
        raise ValueError(
            "mamba2: float64 does not mix with narrower types: zxbcdt and norm_weight must both be float64"
        )
    dims = [each.dim() for each in (zxbcdt, conv_weight, norm_weight, D)]
    if dims != [2, 2, 1, 1]:
        raise ValueError(
            f"mamba2: zxbcdt must be (t, d_in), conv_weight (d_conv, w), norm_weight (d) and D (h), "
            f"but they have {', '.join(map(str, dims))} axes"
        )
    require_rows("mamba2", seqs, zxbcdt=zxbcdt)
    (d_conv, width), (d,), (h,) = conv_weight.shape, norm_weight.shape, D.shape
    if not width or not h or d % h or d_conv <= d or (d_conv - d) % 2:
        raise ValueError(
            f"mamba2: {d} numbers must be of {h} heads of one width, and {d_conv} channels hold them, B and C"
        )
    require_shape("mamba2", "zxbcdt", zxbcdt, seqs.num_positions, d + d_conv + h)
    for name, wanted in (("conv_bias", d_conv), ("dt_bias", h), ("A_log", h)):
        require_shape("mamba2", name, weights[name], wanted)
    arguments = zxbcdt, conv_weight, conv_bias, dt_bias, A_log, D, norm_weight, float(eps), seqs, dtype
    return _op.run(backend, zxbcdt.device, *arguments)
