"""The routing module: where a sequence is cut.

    q_t = W_q x_{t-1},  k_t = W_k x_t,  p_t = (1 - cos(q_t, k_t)) / 2,  b_t = p_t > 0.5

Vectors that differ from their predecessor start a chunk. The first position of a sequence always does: p = 1. (The
paper writes q_t, k_{t-1} and p >= 0.5; the reference code, and so its checkpoints, pair them as here.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hnet_lm.chunker_config import ChunkerSite, LearnedChunkerConfig
from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.sequences import Sequences
from hnet_lm.state import State, consumed


@dataclass
class RoutingState(State):
    """q of the last position of each sequence, and whether there has been one."""

    last_q: Float[Tensor, "s d"]
    has_seen: Bool[Tensor, " s"]


class RoutingModule(Chunker):
    """p_t = (1 - cos(W_q x_{t-1}, W_k x_t)) / 2. State: the last q and whether there was one (`RoutingState`)."""

    def __init__(self, d_model: int, threshold: float = 0.5):
        super().__init__()
        self.d_model = d_model
        self.threshold = threshold
        self.q_proj = nn.Linear(d_model, d_model, bias=False)
        self.k_proj = nn.Linear(d_model, d_model, bias=False)

    def initialize(self) -> None:
        nn.init.eye_(self.q_proj.weight)
        nn.init.eye_(self.k_proj.weight)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: RoutingState | None = None
    ) -> tuple[Routing, RoutingState | None]:
        state = consumed(state, RoutingState)
        q, k = self.q_proj(x), self.k_proj(x)
        p, last_q, has_seen = boundary_prob(q, k, seqs, state and state.last_q, state and state.has_seen)
        routing = Routing(p, p > self.threshold, seqs)
        return routing, None if last_q is None or has_seen is None else RoutingState(last_q, has_seen)

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> RoutingState:
        """`device` None: where the weights are."""
        weight = next(self.parameters())
        device = device or weight.device
        wide = torch.promote_types(weight.dtype, torch.float32)
        return RoutingState(
            last_q=torch.zeros(num_sequences, self.d_model, dtype=wide, device=device),
            has_seen=torch.zeros(num_sequences, dtype=torch.bool, device=device),
        )


@dataclass(frozen=True)
class DynamicChunkerConfig(LearnedChunkerConfig):
    """The routing module: boundaries are learned."""

    def build(self, site: ChunkerSite) -> RoutingModule:
        return RoutingModule(site.d_model, self.threshold)

    def flops_per_position(self, site: ChunkerSite) -> float:
        """Two matrices."""
        return 2 * 2 * site.d_model**2
