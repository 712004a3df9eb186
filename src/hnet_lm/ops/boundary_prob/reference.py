"""Position by position."""

import torch
from torch import Tensor

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.sequences import Sequences


def boundary_prob(
    q: Tensor, k: Tensor, seqs: Sequences, last_q: Tensor | None, has_seen: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    wide = torch.promote_types(q.dtype, torch.float32)
    probs, ends = [q.new_zeros(0, dtype=wide)], []
    for i, (start, length) in enumerate(zip(seqs.starts.tolist(), seqs.host_lengths, strict=True)):
        has_before = has_seen is not None and bool(seqs.owned(has_seen)[i])
        before = seqs.owned(last_q)[i : i + 1] if last_q is not None else q[:0]
        for t in range(start, start + length):
            if not has_before:
                probs.append(q.new_ones(1, dtype=wide))
            else:
                a, b = before.to(wide), k[t : t + 1].to(wide)
                norms = a.norm(dim=-1).clamp(min=EPS) * b.norm(dim=-1).clamp(min=EPS)
                probs.append(((1 - (a * b).sum(-1) / norms) / 2).clamp(0, 1))
            before, has_before = q[t : t + 1], True
        ends.append(before)
    if last_q is not None and has_seen is not None and ends:
        last_q = seqs.replaced(last_q, torch.cat([end.to(last_q.dtype) for end in ends]))
        has_seen = seqs.replaced(has_seen, seqs.owned(has_seen) | (seqs.lengths > 0))
    return torch.cat(probs), last_q, has_seen
