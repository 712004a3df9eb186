"""The selective state space of Mamba-2 (state space duality), along each sequence:

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T        y_t = C_t h_t + D x_t

Each head has a scalar A; B and C are shared by all heads (one group). Dao and Gu, arXiv 2405.21060.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.checks import given, require_floating, require_rows, require_same_type, require_shape, require_state
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def ssd(
    x: Float[Tensor, "t h p"],
    dt: Float[Tensor, "t h"],
    A: Float[Tensor, " h"],
    B: Float[Tensor, "t n"],
    C: Float[Tensor, "t n"],
    D: Float[Tensor, " h"],
    seqs: Sequences,
    state: Float[Tensor, "s n h p"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t h p"], Float[Tensor, "s n h p"] | None]:
    """y of every position, of the type of x, and the last h of every slot.

    dt is positive, A negative. x, B and C are of one type; dt, A and D, and the whole computation, of one at least as
    wide, float32 or float64. Raises ValueError for types and shapes that do not fit.
    """
    require_floating("ssd", x=x, dt=dt, A=A, B=B, C=C, D=D, **given(state=state))
    require_same_type("ssd", x=x, B=B, C=C)
    require_same_type("ssd", dt=dt, A=A, D=D, **given(state=state))
    if dt.dtype != torch.promote_types(dt.dtype, torch.promote_types(x.dtype, torch.float32)):
        raise ValueError(f"ssd: dt must be at least as wide as x and as float32, got {dt.dtype} and {x.dtype}")
    if x.dim() != 3 or B.dim() != 2:
        raise ValueError(f"ssd: x must be (t, h, p) and B (t, n), got {tuple(x.shape)}, {tuple(B.shape)}")
    require_rows("ssd", seqs, x=x)
    (t, h, p), n = x.shape, B.shape[1]
    for name, tensor, shape in (("dt", dt, (t, h)), ("A", A, (h,)), ("B", B, (t, n)), ("C", C, (t, n)), ("D", D, (h,))):
        require_shape("ssd", name, tensor, *shape)
    require_state("ssd", "state", state, seqs, n, h, p)
    return _op.run(backend, x.device, x, dt, A, B, C, D, seqs, state)
