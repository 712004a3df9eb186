"""Root mean square norm of each position, of a gated input where there is a gate:

y_t = v_t / sqrt(mean(v_t^2) + eps) * weight        v_t = x_t * silu(gate_t), or x_t
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import FLOATING, given, require_eps, require_floating, require_shape
from hnet_lm.ops.dispatch import Op

_op = Op(__name__)


def rms_norm(
    x: Float[Tensor, "t d"],
    weight: Float[Tensor, " d"],
    eps: float,
    gate: Float[Tensor, "t d"] | None = None,
    *,
    dtype: torch.dtype | None = None,
    backend: str | None = None,
) -> Float[Tensor, "t d"]:
    """Computed in at least float32; the result is of this type, or of the weight's.

    Raises ValueError for shapes that do not fit.
    """
    require_floating("rms_norm", x=x, weight=weight, **given(gate=gate))
    dtype = weight.dtype if dtype is None else dtype
    if dtype not in FLOATING:
        raise ValueError(f"rms_norm: dtype must be a floating-point type of 16 bits or more, not {dtype}")
    require_eps("rms_norm", eps)
    if x.dim() != 2:
        raise ValueError(f"rms_norm: x must be (t, d), got {tuple(x.shape)}")
    require_shape("rms_norm", "weight", weight, x.shape[1])
    if len({tensor.dtype == torch.float64 for tensor in (x, weight, x if gate is None else gate)}) > 1:
        raise ValueError("rms_norm: float64 does not mix with narrower types: x, weight and gate must all be float64")
    if gate is not None:
        require_shape("rms_norm", "gate", gate, *x.shape)
    return _op.run(backend, x.device, x, weight, float(eps), gate, dtype)
