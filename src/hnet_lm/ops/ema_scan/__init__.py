"""Exponential moving average along each sequence, z_t = p_t x_t + (1 - p_t) z_{t-1}: the recurrence of smoothing."""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def ema_scan(
    x: Float[Tensor, "t d"],
    p: Float[Tensor, " t"],
    seqs: Sequences,
    state: Float[Tensor, "s d"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d"], Float[Tensor, "s d"] | None]:
    """z of every position, and the last z of every slot. p lies in (0, 1); without a state z_{-1} is 0.

    Computed in at least float32, whatever the autocast; the result has the type of p.
    """
    return _op.backend(backend, x.device)(x, p, seqs, state)
