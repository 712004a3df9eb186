"""The inside of the mixer as the ops it is made of, one after the other."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import softplus

from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences

States = tuple[Tensor, Tensor]
"""Of the convolution and of the scan."""


def through_parts(
    zxbcdt: Tensor,
    conv: Callable[[Tensor, Sequences, Tensor | None], tuple[Tensor, Tensor | None]],
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm: Callable[[Tensor, Tensor], Tensor],
    seqs: Sequences,
    states: States | None = None,
    *,
    d_state: int,
    backend: str | None = None,
) -> tuple[Tensor, States | None]:
    """y, and the states if there were any.

    `conv` takes and returns the columns of x, B and C and its state; `norm` takes the output of the scan and the gate.
    Both may be modules. `backend` is the scan's.
    """
    h = len(D)
    d = (zxbcdt.shape[1] - 2 * d_state - h) // 2
    conv_state, ssm_state = (None, None) if states is None else states
    z, xBC, dt = zxbcdt.split([d, d + 2 * d_state, h], dim=-1)
    xBC, conv_state = conv(xBC, seqs, conv_state)
    x, B, C = xBC.split([d, d_state, d_state], dim=-1)
    wide = torch.promote_types(dt.dtype, torch.float32)
    dt = softplus(dt + dt_bias.to(wide))
    A = -A_log.to(wide).exp()
    y, ssm_state = ssd(x.unflatten(-1, (h, -1)), dt, A, B, C, D.to(wide), seqs, ssm_state, backend=backend)  # t h p
    y = norm(y.flatten(1), z)
    return y, None if conv_state is None or ssm_state is None else (conv_state, ssm_state)
