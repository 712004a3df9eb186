"""Root mean square norm of each position, of a gated input where there is a gate:

y_t = v_t / sqrt(mean(v_t^2) + eps) * weight        v_t = x_t * silu(gate_t), or x_t
"""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor, get_autocast_dtype, is_autocast_enabled  # not torch itself, which is a backend's name here
from torch import dtype as Dtype

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
    dtype: Dtype | None = None,
    backend: str | None = None,
) -> Float[Tensor, "t d"]:
    """Computed in at least float32; the result is of this type, or of the weight's."""
    return _op.backend(backend, x.device)(x, weight, gate, eps, dtype or weight.dtype)


def pre_normed(x: Float[Tensor, "t d"], pre_norm: PreNorm | None, backend: str) -> Float[Tensor, "t d"]:
    """That norm by itself, for a product; x where there is none."""
    if pre_norm is None:
        return x
    weight, eps = pre_norm
    return rms_norm(x, weight, None, eps, dtype=product_dtype(weight), backend=backend)


def product_dtype(weight: Tensor) -> Dtype:
    """In which a product would read what stands beside this weight: the type of the autocast, or the weight's."""
    device = weight.device.type
    return get_autocast_dtype(device) if is_autocast_enabled(device) else weight.dtype
