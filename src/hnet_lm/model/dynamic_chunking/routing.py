"""The routing module: where a sequence is cut.

    q_t = W_q x_{t-1},  k_t = W_k x_t,  p_t = (1 - cos(q_t, k_t)) / 2,  b_t = p_t > 0.5

Vectors that differ from their predecessor start a chunk. The first position of a sequence always does: p = 1. (The
paper writes q_t, k_{t-1} and p >= 0.5; the reference code, and so its checkpoints, pair them as here.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity, pad

from hnet_lm.sequences import Sequences
from hnet_lm.state import State


@dataclass(frozen=True)
class Routing:
    """The decisions of one stage, packed as `seqs` says; padded to `(b, l)` where the model was called so."""

    boundary_prob: Float[Tensor, "*t"]
    is_boundary: Bool[Tensor, "*t"]
    seqs: Sequences
    valid: Bool[Tensor, "*t"] | None = None
    """Which entries are positions and not padding; None: all."""
    is_learned: bool = True
    """False where a rule decided and no routing module: then there is nothing for a ratio loss to steer."""

    @property
    def confidence(self) -> Float[Tensor, "*t"]:
        """c: the probability of the decision taken."""
        return torch.where(self.is_boundary, self.boundary_prob, 1 - self.boundary_prob)


@dataclass
class RoutingState(State):
    """The last vector of each sequence, and whether there has been one."""

    last: Float[Tensor, "s d"]
    has_seen: Bool[Tensor, " s"]


class RoutingModule(nn.Module):
    """p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2. State: the last x and whether there was one (`RoutingState`)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: RoutingState | None = None
    ) -> tuple[Routing, RoutingState | None]:
        active = seqs.nonempty_only()
        q, k = self.q_proj(x), self.k_proj(x)
        p = pad(_dissimilarity(q[:-1], k[1:]), (1, 0)) if len(x) else _dissimilarity(q, k)
        p_first = p.new_ones(active.num_sequences)
        if state is not None:
            q_first = self.q_proj(active.owned(state.last).to(x.dtype))
            p_first = torch.where(active.owned(state.has_seen), _dissimilarity(q_first, k[active.starts]), p_first)
            last_rows = active.cu_seqlens[1:] - 1
            state = RoutingState(
                active.replaced(state.last, x[last_rows]),
                active.replaced(state.has_seen, torch.ones_like(active.starts, dtype=torch.bool)),
            )
        p = p.index_copy(0, active.starts, p_first)
        return Routing(p, p > 0.5, seqs), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> RoutingState:
        """`device` None: where the weights are."""
        weight = self.q_proj.weight
        device = device or weight.device
        return RoutingState(
            last=torch.zeros(num_sequences, weight.shape[1], dtype=weight.dtype, device=device),
            has_seen=torch.zeros(num_sequences, dtype=torch.bool, device=device),
        )


def _dissimilarity(q: Float[Tensor, "n d"], k: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
    wide = torch.promote_types(q.dtype, torch.float32)
    return ((1 - cosine_similarity(q.to(wide), k.to(wide), dim=-1)) / 2).clamp(0, 1)
