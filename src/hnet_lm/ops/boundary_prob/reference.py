"""Position by position."""

import torch
from torch import Tensor

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.ops.linear import LinearWeight, linear
from hnet_lm.sequences import Sequences


def boundary_prob(
    x: Tensor,
    q_proj: LinearWeight,
    k_proj: LinearWeight,
    seqs: Sequences,
    last: Tensor | None,
    has_seen: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    wide = torch.promote_types(x.dtype, torch.float32)
    probs, ends = [x.new_zeros(0, dtype=wide)], []
    for i, (start, length) in enumerate(zip(seqs.starts.tolist(), seqs.host_lengths, strict=True)):
        has_before = has_seen is not None and bool(seqs.owned(has_seen)[i])
        before = seqs.owned(last)[i : i + 1] if last is not None else x[:0]
        for t in range(start, start + length):
            if not has_before:
                probs.append(x.new_ones(1, dtype=wide))
            else:
                q = linear(before.to(x.dtype), q_proj, backend="reference").to(wide)
                k = linear(x[t : t + 1], k_proj, backend="reference").to(wide)
                norms = q.norm(dim=-1).clamp(min=EPS) * k.norm(dim=-1).clamp(min=EPS)
                probs.append(((1 - (q * k).sum(-1) / norms) / 2).clamp(0, 1))
            before, has_before = x[t : t + 1], True
        ends.append(before)
    if last is not None and has_seen is not None and ends:
        last = seqs.replaced(last, torch.cat(ends).to(last.dtype))
        has_seen = seqs.replaced(has_seen, seqs.owned(has_seen) | (seqs.lengths > 0))
    return torch.cat(probs), last, has_seen
