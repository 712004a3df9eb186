"""One position a sequence in compiled loops, on the state where it lies; longer spans by the ops.

Small projections of few sequences are in the same loop (`one_loop`).
"""

import torch
from torch import Tensor

from hnet_lm.ops.attention import KVState
from hnet_lm.ops.linear import linear
from hnet_lm.ops.native import ONE, addresses, ranges, run
from hnet_lm.ops.one_loop import is_step, operands
from hnet_lm.ops.rms_norm import PreNorm, pre_normed
from hnet_lm.ops.self_attention._composed import composed
from hnet_lm.ops.self_attention._loops import inner, whole
from hnet_lm.ops.self_attention._rotary import rotary_frequencies
from hnet_lm.ops.self_attention._weights import AttentionShape, AttentionWeights
from hnet_lm.sequences import Sequences


def self_attention(
    x: Tensor,
    weights: AttentionWeights,
    shape: AttentionShape,
    seqs: Sequences,
    state: KVState | None,
    pre_norm: PreNorm | None,
) -> tuple[Tensor, KVState | None]:
    if state is None or not is_step(seqs, x, pre_norm, weights, (state.keys, state.values)) or not x.shape[0]:
        return composed("numba", x, weights, shape, seqs, state, pre_norm)
    num_rows, d = x.shape
    head_dim = d // shape.num_heads
    slots = seqs.busy_slots(state.num_seen)
    state.reserve(int(state.num_seen.max()) + 1, shape.window)
    frequencies = seqs.memo(
        ("rotary frequencies", shape.rotary_emb_dim, x.dtype),
        lambda: rotary_frequencies(shape.rotary_emb_dim, x.dtype, x.device),
    )
    sizes = (num_rows, shape.num_heads, head_dim, frequencies.shape[0], *state.keys.shape[:2], shape.window)
    held = addresses(frequencies, slots, state.num_seen, state.keys, state.values)
    ends = operands(x, pre_norm, *weights)
    if ends is not None:
        out = torch.empty_like(x)
        whole(sizes, ONE[x.dtype], x.data_ptr(), *ends, *held, out.data_ptr())
    else:
        qkv = linear(pre_normed(x, pre_norm, "numba"), weights.qkv_proj, backend="numba")
        y = torch.empty_like(x)
        parts = ranges(num_rows * shape.num_heads, 2 * head_dim * state.num_entries)
        run(inner, parts, sizes, ONE[x.dtype], qkv.data_ptr(), *held, y.data_ptr())
        out = linear(y, weights.out_proj, backend="numba")
    state.num_seen.index_add_(0, slots, torch.ones_like(slots))
    return out, state
