"""A whole self-attention mixer, from one vector a position to the next, with rotary positions:

    [q, k, v] = qkv_proj x      out = out_proj attention(rotary(q), rotary(k), v)

It is one op because a single position of few sequences is better done in one go.
"""

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.attention import KVState
from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.ops.self_attention._weights import AttentionShape, AttentionWeights
from hnet_lm.sequences import Sequences

__all__ = ["AttentionShape", "AttentionWeights", "self_attention"]

_op = Op(__name__)


def self_attention(
    x: Float[Tensor, "t d"],
    weights: AttentionWeights,
    shape: AttentionShape,
    seqs: Sequences,
    state: KVState | None = None,
    *,
    pre_norm: PreNorm | None = None,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d"], KVState | None]:
    """The output of every position, of the normed x if there is a `pre_norm`; and the state with k and v added."""
    return _op.backend(backend, x.device)(x, weights, shape, seqs, state, pre_norm)
