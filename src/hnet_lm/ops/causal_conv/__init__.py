"""Depthwise causal convolution along each sequence, then SiLU:

y_t = silu(bias + sum_k weight[:, k] x_{t - (w-1) + k})
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import given, require_floating, require_rows, require_same_type, require_shape, require_state
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def causal_conv(
    x: Float[Tensor, "t d"],
    weight: Float[Tensor, "d w"],
    bias: Float[Tensor, " d"],
    seqs: Sequences,
    state: Float[Tensor, "s w_minus_1 d"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "s w_minus_1 d"] | None]:
    """y of every position; the state is the last w-1 inputs of every slot, oldest first (zeros before the start).

    Computed in at least float32, whatever the type of x. Raises ValueError for shapes that do not fit.
    """
    require_floating("causal_conv", x=x, weight=weight, bias=bias, **given(state=state))
    require_same_type("causal_conv", weight=weight, bias=bias)
    if x.dim() != 2 or weight.dim() != 2 or not weight.shape[1]:
        raise ValueError(
            f"causal_conv: x must be (t, d) and weight (d, w), got {tuple(x.shape)}, {tuple(weight.shape)}"
        )
    require_rows("causal_conv", seqs, x=x)
    d, width = weight.shape
    require_shape("causal_conv", "x", x, x.shape[0], d)
    require_shape("causal_conv", "bias", bias, d)
    require_state("causal_conv", "state", state, seqs, width - 1, d)
    return _op.run(backend, x.device, x, weight, bias, seqs, state)
