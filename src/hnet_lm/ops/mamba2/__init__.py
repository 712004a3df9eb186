"""A whole Mamba-2 mixer (Dao and Gu, arXiv 2405.21060), from one vector a position to the next:

    [z, x, B, C, dt] = in_proj u      x, B, C = causal_conv(x, B, C)
    y = ssd(x, softplus(dt + dt_bias), -exp(A_log), B, C, D)      out = out_proj rms_norm(y * silu(z))

It is composed of those ops, and is one because a single position of few sequences is better done in one go.
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.mamba2._state import Mamba2State
from hnet_lm.ops.mamba2._weights import Mamba2Weights
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.sequences import Sequences

__all__ = ["Mamba2State", "Mamba2Weights", "mamba2"]

_op = Op(__name__)


def mamba2(
    u: Float[Tensor, "t d_model"],
    weights: Mamba2Weights,
    eps: float,
    seqs: Sequences,
    state: Mamba2State | None = None,
    *,
    pre_norm: PreNorm | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d_model"], Mamba2State | None]:
    """The output of every position, of the normed u if there is a `pre_norm`; and the state."""
    return _op.backend(backend, u.device)(u, weights, eps, seqs, state, pre_norm)
