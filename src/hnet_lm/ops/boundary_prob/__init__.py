"""The probability that a position starts a chunk: how little its vector resembles the one before it.

p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2, in at least float32; the first position of a sequence has p = 1.
"""

from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.sequences import Sequences

_op = Op(__name__)

EPS = 1e-8
"""No vector counts as shorter in the cosine."""


def boundary_prob(
    x: Float[Tensor, "t d"],
    q_proj: LinearWeight,
    k_proj: LinearWeight,
    seqs: Sequences,
    last: Float[Tensor, "s d"] | None = None,
    has_seen: Bool[Tensor, " s"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, " t"], Float[Tensor, "s d"] | None, Bool[Tensor, " s"] | None]:
    """p of every position, and the state: the last vector of each sequence, and whether there has been one."""
    return _op.backend(backend, x.device)(x, q_proj, k_proj, seqs, last, has_seen)
