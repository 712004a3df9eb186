"""Root mean square norm of each position, of a gated input where there is a gate:

y_t = v_t / sqrt(mean(v_t^2) + eps) * weight        v_t = x_t * silu(gate_t), or x_t
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op

_op = Op(__name__)


def rms_norm(
    x: Float[Tensor, "t d"],
    weight: Float[Tensor, " d"],
    gate: Float[Tensor, "t d"] | None,
    eps: float,
    *,
    backend: str | None = None,
) -> Float[Tensor, "t d"]:
    """Computed in at least float32; the result has the weight's type."""
    return _op.backend(backend, x.device)(x, weight, gate, eps)
