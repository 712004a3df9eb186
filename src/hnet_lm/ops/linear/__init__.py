"""A linear map without bias, y = W x, whose weights may be rounded: to bfloat16, or to 8-bit integers with one scale an
output,

    y_i = scale_i * sum_j integers_ij x_j

An integer takes a quarter of the memory of float32, and reading weights is what decoding few sequences waits for.
Rounded weights have no gradients; what they are multiplied with stays in at least float32.
"""

from jaxtyping import Float
from torch import Tensor, is_grad_enabled  # not torch itself: once imported, the backend has that name here

from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.linear._weight import LinearWeight, RoundedWeight

__all__ = ["LinearWeight", "RoundedWeight", "linear"]

_op = Op(__name__)


def linear(
    x: Float[Tensor, "t d_in"], weight: Float[Tensor, "d_out d_in"] | RoundedWeight, *, backend: str | None = None
) -> Float[Tensor, "t d_out"]:
    """With rounded weights in at least float32; RuntimeError where x then needs a gradient."""
    if isinstance(weight, RoundedWeight) and x.requires_grad and is_grad_enabled():
        raise RuntimeError("rounded weights have no gradients: use torch.no_grad(), or train the float weights")
    return _op.backend(backend, x.device)(x, weight)
