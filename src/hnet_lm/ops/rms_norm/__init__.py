"""Root mean square norm of each position, of a gated input where there is a gate:

y_t = v_t / sqrt(mean(v_t^2) + eps) * weight        v_t = x_t * silu(gate_t), or x_t
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op

_op = Op(__name__)


class PreNorm(NamedTuple):
    """The norm in front of a mixer or an MLP, for ops that do it in the same go."""

    weight: Float[Tensor, " d"]
    eps: float


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


def pre_normed(x: Float[Tensor, "t d"], pre_norm: PreNorm | None, backend: str) -> Float[Tensor, "t d"]:
    """That norm by itself; x where there is none."""
    return x if pre_norm is None else rms_norm(x, pre_norm.weight, None, pre_norm.eps, backend=backend)
