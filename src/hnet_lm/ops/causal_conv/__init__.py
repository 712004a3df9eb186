"""Depthwise causal convolution along each sequence, then SiLU:

y_t = silu(bias + sum_k weight[:, k] x_{t - (w-1) + k})
"""

from jaxtyping import Float
from torch import Tensor

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
    """y of every position; the state is the last w-1 inputs of every slot, oldest first (zeros before the start)."""
    return _op.backend(backend, x.device)(x, weight, bias, seqs, state)
