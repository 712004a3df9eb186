"""The selective state space of Mamba-2 (state space duality), along each sequence:

    h_t = exp(dt_t A) h_{t-1} + dt_t B_t x_t^T        y_t = C_t h_t + D x_t

Each head has a scalar A; B and C are shared by all heads (one group). Dao and Gu, arXiv 2405.21060.
"""

from jaxtyping import Float
from torch import Tensor

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

    dt is positive, A negative; both, and all that is computed, in at least float32.
    """
    return _op.backend(backend, x.device)(x, dt, A, B, C, D, seqs, state)
