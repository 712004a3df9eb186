"""Causal softmax attention along each sequence; a window w sees positions t-w .. t, -1 all up to and with t.

Positions are encoded by the caller (rotary embeddings enter q and k before this op). The state holds the keys and
values that later positions may still see.
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.attention._kv_state import KVState
from hnet_lm.ops.attention.paged_kv_state import AttentionState, PagedKVState
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

__all__ = ["AttentionState", "KVState", "PagedKVState", "attention"]

_op = Op(__name__)


def attention(
    q: Float[Tensor, "t h p"],
    k: Float[Tensor, "t h p"],
    v: Float[Tensor, "t h p"],
    window: int,
    seqs: Sequences,
    state: AttentionState | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t h p"], AttentionState | None]:
    """The mix of values that each position attends to, scaled by 1 / sqrt(p), and the state with k and v added."""
    return _op.backend(backend, q.device)(q, k, v, window, seqs, state)
