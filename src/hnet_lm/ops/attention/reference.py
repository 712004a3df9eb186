"""Sequence by sequence: the full score matrix, masked, softmax, product."""

import torch
from torch import Tensor

from hnet_lm.ops.attention._paged_kv_state import AttentionState
from hnet_lm.sequences import Sequences


def attention(
    q: Tensor, k: Tensor, v: Tensor, window: int, seqs: Sequences, state: AttentionState | None
) -> tuple[Tensor, AttentionState | None]:
    outputs = [q[:0]]
    for i, (start, length) in enumerate(zip(seqs.starts.tolist(), seqs.host_lengths, strict=True)):
        rows = slice(start, start + length)
        keys, values = k[rows], v[rows]
        if state is not None:
            slot = i if seqs.slots is None else int(seqs.slots[i])
            seen = int(state.num_seen[slot])
            held = seen if window < 0 else min(seen, window + 1)
            one = Sequences.from_lengths([length], torch.tensor([slot], device=q.device), q.device)
            past_keys, past_values, _ = state.visible(state.num_seen[slot : slot + 1], held, window, one)
            keys = torch.cat([past_keys[0].to(k.dtype), keys])
            values = torch.cat([past_values[0].to(v.dtype), values])
        distance = torch.arange(len(keys) - length, len(keys))[:, None] - torch.arange(len(keys))
        seen_from = (distance >= 0) if window < 0 else (distance >= 0) & (distance <= window)
        per_query = torch.arange(q.shape[1], device=q.device) // max(1, q.shape[1] // max(1, k.shape[1]))
        keys, values = keys[:, per_query], values[:, per_query]
        scores = torch.einsum("ihp,jhp->hij", q[rows], keys) / q.shape[-1] ** 0.5
        weights = scores.masked_fill(~seen_from.to(q.device), float("-inf")).softmax(-1)
        outputs.append(torch.einsum("hij,jhp->ihp", weights, values))
    return torch.cat(outputs), None if state is None else state.write(k, v, window, seqs)
