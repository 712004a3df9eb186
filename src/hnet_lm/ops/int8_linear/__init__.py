"""A linear map whose weights are 8-bit integers with one scale an output, for decoding:

y_i = scale_i * sum_j weight_ij x_j

A weight takes a quarter of the memory of float32, and reading weights is what decoding few sequences waits for. There
are no gradients.
"""

from jaxtyping import Float, Int8
from torch import Tensor, is_grad_enabled  # not torch itself: once imported, the backend has that name here

from hnet_lm.ops.dispatch import Op

_op = Op(__name__)


def int8_linear(
    x: Float[Tensor, "t d_in"],
    weight: Int8[Tensor, "d_out d_in"],
    scale: Float[Tensor, " d_out"],
    *,
    backend: str | None = None,
) -> Float[Tensor, "t d_out"]:
    """Computed in at least float32, and the result is of that type. Raises RuntimeError where x needs a gradient."""
    if x.requires_grad and is_grad_enabled():
        raise RuntimeError("int8_linear has no gradients: call it under torch.no_grad(), or train the float weights")
    return _op.backend(backend, x.device)(x, weight, scale)
