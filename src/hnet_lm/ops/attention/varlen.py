"""torch's flash attention of packed sequences: rows are read where they are, and nothing is padded or masked.

For sequences that begin here, in training and in a first prefill; what continues a state is for `eager`. How this
function is called changes between versions of torch, so its signature is looked at, not a version.
"""

import inspect
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from hnet_lm.ops.attention._paged_kv_state import AttentionState
from hnet_lm.sequences import Sequences

TYPES = (torch.bfloat16, torch.float16)
MAX_HEAD_DIM = 256
_PARAMETERS = inspect.signature(varlen_attn).parameters


def supports(q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, state: AttentionState | None) -> str | None:
    if q.device.type != "cuda":
        return f"it runs on a GPU, not on {q.device.type}"
    if q.dtype not in TYPES:
        return f"it knows {', '.join(map(str, TYPES))}"
    if q.shape[2] % 8 or q.shape[2] > MAX_HEAD_DIM:
        return f"a head must be a multiple of 8 wide, and {MAX_HEAD_DIM} at most"
    if "window_size" not in _PARAMETERS and window >= 0:
        return "this version of torch has no windows in it"
    if "enable_gqa" not in _PARAMETERS and k.shape[1] != q.shape[1]:
        return "this version of torch has no shared heads of keys in it"
    if state is not None and state.num_held(window, seqs):
        return "it does not go on from keys that a state holds"
    return None


def attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, state: AttentionState | None
) -> tuple[Tensor, AttentionState | None]:
    if not len(q):
        return q, state
    ends = seqs.memo("cu_seqlens of 32 bits", lambda: seqs.cu_seqlens.to(torch.int32))
    seen: dict[str, Any] = {"window_size": (window, 0)} if "window_size" in _PARAMETERS else {"is_causal": True}
    if k.shape[1] != q.shape[1]:
        seen["enable_gqa"] = True
    y: Any = varlen_attn(q, k, v, ends, ends, seqs.max_length, seqs.max_length, **seen)
    return y, None if state is None else state.write(k, v, window, seqs)
