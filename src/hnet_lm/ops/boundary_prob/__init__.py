"""The probability that a position starts a chunk: how little it resembles the one before it.

p_t = (1 - cos(q_{t-1}, k_t)) / 2, in at least float32; the first position of a sequence has p = 1.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.checks import given, require_floating, require_rows, require_same_type, require_shape, require_state
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)

EPS = 1e-8
"""The least length of a vector in the cosine, as in torch's cosine_similarity."""


def boundary_prob(
    q: Float[Tensor, "t d"],
    k: Float[Tensor, "t d"],
    seqs: Sequences,
    last_q: Float[Tensor, "s d"] | None = None,
    has_seen: Bool[Tensor, " s"] | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, " t"], Float[Tensor, "s d"] | None, Bool[Tensor, " s"] | None]:
    """p of every position, and the state: the last q of each slot, and whether there has been one.

    Raises ValueError for shapes that do not fit.
    """
    require_floating("boundary_prob", q=q, k=k, **given(last_q=last_q))
    require_same_type("boundary_prob", q=q, k=k)
    if q.dim() != 2:
        raise ValueError(f"boundary_prob: q must be (t, d), got {tuple(q.shape)}")
    require_rows("boundary_prob", seqs, q=q)
    require_shape("boundary_prob", "k", k, *q.shape)
    require_state("boundary_prob", "last_q", last_q, seqs, q.shape[1])
    require_state("boundary_prob", "has_seen", has_seen, seqs)
    if (last_q is None) != (has_seen is None) or (has_seen is not None and has_seen.dtype != torch.bool):
        raise ValueError("boundary_prob: last_q and has_seen (bool) are given together or not at all")
    return _op.run(backend, q.device, q, k, seqs, last_q, has_seen)
