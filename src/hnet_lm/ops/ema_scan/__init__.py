"""Exponential moving average along each sequence, z_t = p_t x_t + (1 - p_t) z_{t-1}: the recurrence of smoothing."""

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import given, require_floating, require_rows, require_same_type, require_shape, require_state
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

    x, p and the result are of one type, float32 or float64, whatever the autocast. Raises ValueError for types and
    shapes that do not fit.
    """
    require_floating("ema_scan", x=x, p=p, **given(state=state))
    require_same_type("ema_scan", x=x, p=p, **given(state=state))
    if x.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"ema_scan: x and p must be float32 or float64, not {x.dtype}")
    if x.dim() != 2:
        raise ValueError(f"ema_scan: x must be (t, d), got {tuple(x.shape)}")
    require_rows("ema_scan", seqs, x=x)
    require_shape("ema_scan", "p", p, x.shape[0])
    require_state("ema_scan", "state", state, seqs, x.shape[1])
    return _op.run(backend, x.device, x, p, seqs, state)
