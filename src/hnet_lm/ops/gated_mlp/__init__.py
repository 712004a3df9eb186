"""A gated MLP: [y, gate] = fc1 x, out = fc2 (silu(gate) * y)."""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.linear import RoundedWeight
from hnet_lm.ops.rms_norm import PreNorm

_op = Op(__name__)


def gated_mlp(
    x: Float[Tensor, "t d"],
    fc1: Float[Tensor, "two_f d"] | RoundedWeight,
    fc2: Float[Tensor, "d f"] | RoundedWeight,
    *,
    pre_norm: PreNorm | None = None,
    backend: str | None = None,
) -> Float[Tensor, "t d"]:
    """Of the normed x if there is a `pre_norm`. fc1 is (2f, d) and fc2 (d, f)."""
    return _op.backend(backend, x.device)(x, fc1, fc2, pre_norm)
