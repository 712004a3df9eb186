"""Causal softmax attention along each sequence; a window w sees positions t-w .. t, -1 all up to and with t.

There may be fewer heads of keys and values than of queries (grouped-query attention, arXiv 2305.13245): each is for
h / g of these, side by side. Positions are encoded by the caller (rotary embeddings enter q and k before this op). The
state holds the keys and values that later positions may still see.
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.attention._fixed_kv_state import FixedKVState
from hnet_lm.ops.attention._kv_state import KVState
from hnet_lm.ops.attention._paged_kv_state import AttentionState, PagedKVState, page_positions
from hnet_lm.ops.checks import require_floating, require_rows, require_same_type, require_shape, require_whole_number
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

__all__ = ["AttentionState", "FixedKVState", "KVState", "PagedKVState", "attention", "page_positions"]

_op = Op(__name__)


def attention(
    q: Float[Tensor, "t h p"],
    k: Float[Tensor, "t g p"],
    v: Float[Tensor, "t g p"],
    window: int,
    seqs: Sequences,
    state: AttentionState | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t h p"], AttentionState | None]:
    """The mix of values that each position attends to, scaled by 1 / sqrt(p), and the state with k and v added.

    Raises ValueError for shapes that do not fit, for a window below -1, and for a state that was used before.
    """
    require_floating("attention", q=q, k=k, v=v)
    require_same_type("attention", q=q, k=k, v=v)
    require_whole_number("attention", "window", window, -1)
    if q.dim() != 3:
        raise ValueError(f"attention: q must be (t, h, p), got {tuple(q.shape)}")
    require_rows("attention", seqs, q=q)
    num_heads, num_kv_heads = q.shape[1], k.shape[1] if k.dim() == 3 else q.shape[1]
    if num_heads % max(num_kv_heads, 1):
        raise ValueError(f"attention: {num_kv_heads} heads of keys do not divide {num_heads} of queries")
    require_shape("attention", "k", k, q.shape[0], num_kv_heads, q.shape[2])
    require_shape("attention", "v", v, q.shape[0], num_kv_heads, q.shape[2])
    if state is not None:
        if not isinstance(state, KVState | PagedKVState):
            raise TypeError(f"attention: state must be a KVState or a PagedKVState, not {type(state).__name__}")
        state.require_fit(num_kv_heads, q.shape[2], window, seqs)
        state = state.consume()
    return _op.run(backend, q.device, q, k, v, window, seqs, state)
