"""The gate of the MLP: silu(gate) * y."""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import require_floating, require_same_type, require_shape
from hnet_lm.ops.dispatch import Op

_op = Op(__name__)


def swiglu(y: Float[Tensor, "t f"], gate: Float[Tensor, "t f"], *, backend: str | None = None) -> Float[Tensor, "t f"]:
    """Of the type of both. Raises ValueError for types and shapes that do not fit."""
    require_floating("swiglu", y=y, gate=gate)
    require_same_type("swiglu", y=y, gate=gate)
    require_shape("swiglu", "gate", gate, *y.shape)
    return _op.run(backend, y.device, y, gate)
