"""All positions at once: q moved by one, the carried one before the first of its sequence."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.sequences import Sequences


def boundary_prob(
    q: Tensor, k: Tensor, seqs: Sequences, last_q: Tensor | None, has_seen: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    active = seqs.nonempty_only()
    p = pad(_dissimilarity(q[:-1], k[1:]), (1, 0)) if len(q) else _dissimilarity(q, k)
    p_first = p.new_ones(active.num_sequences)
    if last_q is not None and has_seen is not None:
        p_first = torch.where(active.owned(has_seen), _dissimilarity(active.owned(last_q), k[active.starts]), p_first)
        last_q = active.replaced(last_q, q[active.cu_seqlens[1:] - 1])
        has_seen = active.replaced(has_seen, torch.ones_like(active.starts, dtype=torch.bool))
    return p.index_copy(0, active.starts, p_first), last_q, has_seen


def _dissimilarity(q: Tensor, k: Tensor) -> Tensor:
    wide = torch.promote_types(k.dtype, torch.float32)
    return ((1 - cosine_similarity(q.to(wide), k.to(wide), dim=-1, eps=EPS)) / 2).clamp(0, 1)
