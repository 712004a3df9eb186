"""All positions at once: the vectors moved by one, the carried one before the first of its sequence."""

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity, pad

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
    active = seqs.nonempty_only()
    q, k = linear(x, q_proj, backend="torch"), linear(x, k_proj, backend="torch")
    p = pad(_dissimilarity(q[:-1], k[1:]), (1, 0)) if len(x) else _dissimilarity(q, k)
    p_first = p.new_ones(active.num_sequences)
    if last is not None and has_seen is not None:
        q_first = linear(active.owned(last).to(x.dtype), q_proj, backend="torch")
        p_first = torch.where(active.owned(has_seen), _dissimilarity(q_first, k[active.starts]), p_first)
        last = active.replaced(last, x[active.cu_seqlens[1:] - 1])
        has_seen = active.replaced(has_seen, torch.ones_like(active.starts, dtype=torch.bool))
    return p.index_copy(0, active.starts, p_first), last, has_seen


def _dissimilarity(q: Tensor, k: Tensor) -> Tensor:
    wide = torch.promote_types(q.dtype, torch.float32)
    return ((1 - cosine_similarity(q.to(wide), k.to(wide), dim=-1, eps=EPS)) / 2).clamp(0, 1)
