"""One position a sequence in one compiled loop (`one_call`), on the state where it lies; longer spans by the ops."""

import torch
from torch import Tensor

from hnet_lm.ops.attention import KVState
from hnet_lm.ops.native import addresses
from hnet_lm.ops.one_call import Call, is_step, norm_and_ends, run_calls
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.ops.self_attention._composed import composed
from hnet_lm.ops.self_attention._loops import attend_job, attention_job
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
    out = torch.empty_like(x)
    call = attention_call(x, out, weights, shape, seqs, state, pre_norm)
    if call is None:
        return composed("numba", x, weights, shape, seqs, state, pre_norm)
    run_calls([call])
    return out, state


def attention_call(
    x: Tensor,
    out: Tensor,
    weights: AttentionWeights,
    shape: AttentionShape,
    seqs: Sequences,
    state: KVState | None,
    pre_norm: PreNorm | None,
) -> Call | None:
    """One position of each sequence into `out`, or added to x if that is x; None where loops cannot do it."""
    if state is None or not is_step(seqs, x, pre_norm, weights, (state.keys, state.values)) or not x.shape[0]:
        return None
    num_rows, d = x.shape
    slots = seqs.busy_slots(state.num_seen)
    state.reserve(int(state.num_seen.max()) + 1, shape.window)
    frequencies = seqs.memo(
        ("rotary frequencies", shape.rotary_emb_dim, x.dtype),
        lambda: rotary_frequencies(shape.rotary_emb_dim, x.dtype, x.device),
    )
    keys, values = state.keys, state.values
    sizes = (num_rows, shape.num_heads, d // shape.num_heads, frequencies.shape[0], *keys.shape[:2], shape.window)
    held = addresses(frequencies, slots, state.num_seen, keys, values)
    ends = norm_and_ends(x, out, pre_norm, *weights)
    return Call(attention_job(x.dtype), (*ends, attend_job(x.dtype), *sizes, *held))
