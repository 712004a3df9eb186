"""A routing module with a bias and a temperature:

    q_t = W_q x_{t-1},  k_t = W_k x_t,  p_t = sigmoid((b - cos(q_t, k_t)) / T),  b_t = p_t > 0.5

The paper's p = (1 - cos) / 2 cuts where the cosine is below 0, a place that W_q and W_k have to move towards the data.
Here the place b and the steepness 1 / T are parameters of their own. With b = 0 and T = 1/2 the router cuts where the
paper's does, and p has its slope there. The first position of a sequence has p = 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.checks import require_number
from hnet_lm.chunker_config import ChunkerSite, LearnedChunkerConfig
from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.model.dynamic_chunking.chunkers.fixed import first_positions
from hnet_lm.model.dynamic_chunking.routing import RoutingModule, RoutingState
from hnet_lm.sequences import Sequences


class CosineChunker(Chunker):
    """p_t = sigmoid((b - cos(W_q x_{t-1}, W_k x_t)) / T). State: that of the routing module inside."""

    def __init__(self, d_model: int, bias: float, temperature: float, threshold: float):
        super().__init__()
        self.threshold = threshold
        self.cosine = RoutingModule(d_model)
        self.start = (bias, math.log(temperature))
        self.bias = nn.Parameter(torch.empty(1))
        self.log_temperature = nn.Parameter(torch.empty(1))

    def initialize(self) -> None:
        self.cosine.initialize()
        for parameter, value in zip((self.bias, self.log_temperature), self.start, strict=True):
            nn.init.constant_(parameter, value)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: RoutingState | None = None
    ) -> tuple[Routing, RoutingState | None]:
        is_first = first_positions(seqs, state and state.has_seen)
        routing, state = self.cosine(x, seqs, state)
        cosine = 1 - 2 * routing.boundary_prob
        p = torch.sigmoid((self.bias.to(cosine.dtype) - cosine) * (-self.log_temperature.to(cosine.dtype)).exp())
        p = p.masked_fill(is_first, 1.0)
        return Routing(p, p > self.threshold, seqs), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> RoutingState:
        return self.cosine.new_state(num_sequences, device)


@dataclass(frozen=True)
class CosineChunkerConfig(LearnedChunkerConfig):
    """The routing module with a learned bias and temperature; the fields are where these start."""

    bias: float = 0.0
    temperature: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("chunkers.cosine.bias", self.bias, -1, 1)
        require_number("chunkers.cosine.temperature", self.temperature, above=0)

    def build(self, site: ChunkerSite) -> CosineChunker:
        return CosineChunker(site.d_model, self.bias, self.temperature, self.threshold)

    def flops_per_position(self, site: ChunkerSite) -> float:
        """Two matrices."""
        return 2 * 2 * site.d_model**2
