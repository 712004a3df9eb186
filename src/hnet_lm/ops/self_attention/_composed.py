"""The ops one after the other."""

from torch import Tensor

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.ops.linear import linear
from hnet_lm.ops.rms_norm import PreNorm, pre_normed
from hnet_lm.ops.self_attention._rotary import apply_rotary
from hnet_lm.ops.self_attention._weights import AttentionShape, AttentionWeights
from hnet_lm.sequences import Sequences


def composed(
    backend: str,
    x: Tensor,
    weights: AttentionWeights,
    shape: AttentionShape,
    seqs: Sequences,
    state: KVState | None,
    pre_norm: PreNorm | None,
) -> tuple[Tensor, KVState | None]:
    num_heads = shape.num_heads
    x = pre_normed(x, pre_norm, backend)
    qkv = linear(x, weights.qkv_proj, backend=backend).unflatten(-1, (3 * num_heads, -1))  # t 3h p
    positions = seqs.positions
    if state is not None:
        positions = positions + seqs.owned(state.num_seen)[seqs.sequence_ids]
    qk, v = qkv.split([2 * num_heads, num_heads], dim=1)
    q, k = apply_rotary(qk, positions, shape.rotary_emb_dim).chunk(2, dim=1)  # t h p
    chosen = backend if backend == "reference" else None  # attention has no loops: then it is as chosen for it
    y, state = attention(q, k, v, shape.window, seqs, state, backend=chosen)
    return linear(y.flatten(1), weights.out_proj, backend=backend), state
