"""A probability straight from the encoder's vector, without a cosine of two vectors:

    p_t = sigmoid(w . x_t + b),  b_t = p_t > 1/2

The paper's ablation "no cosine similarity": nothing says that a boundary is where neighbours differ. The first position
of a sequence has p = 1.
"""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.checks import require_number
from hnet_lm.chunker_config import ChunkerSite, LearnedChunkerConfig
from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.model.dynamic_chunking.chunkers.fixed import SeenState, positions_of
from hnet_lm.sequences import Sequences
from hnet_lm.state import consumed

STD = 0.02
"""Of the weights at the start."""


class LinearChunker(Chunker):
    """p_t = sigmoid(w . x_t + b). State: how many positions have been seen (`SeenState`)."""

    def __init__(self, d_model: int, start_rate: float, threshold: float):
        super().__init__()
        self.start_rate = start_rate
        self.threshold = threshold
        self.weight = nn.Parameter(torch.empty(1, d_model))
        self.bias = nn.Parameter(torch.empty(1))

    def initialize(self) -> None:
        nn.init.normal_(self.weight, std=STD)
        nn.init.constant_(self.bias, math.log(self.start_rate / (1 - self.start_rate)))

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: SeenState | None = None
    ) -> tuple[Routing, SeenState | None]:
        positions, state = positions_of(seqs, consumed(state, SeenState))
        logit = to_number(x, self.weight, self.bias)
        p = torch.sigmoid(logit).masked_fill(positions == 0, 1.0)
        return Routing(p, p > self.threshold, seqs, boundary_logit=logit), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device or self.weight.device)


def to_number(x: Float[Tensor, "t d"], weight: Float[Tensor, "1 d"], bias: Float[Tensor, " 1"]) -> Float[Tensor, " t"]:
    """w . x + b of every position, in at least float32 whatever the autocast."""
    wide = torch.promote_types(x.dtype, torch.float32)
    with torch.autocast(x.device.type, enabled=False):
        return (x.to(wide) @ weight.to(wide).T + bias.to(wide))[:, 0]


@dataclass(frozen=True)
class LinearChunkerConfig(LearnedChunkerConfig):
    """A linear map and a sigmoid; `start_rate` is the probability of a boundary with which it starts."""

    start_rate: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("chunkers.linear.start_rate", self.start_rate, above=0, below=1)

    def build(self, site: ChunkerSite) -> LinearChunker:
        return LinearChunker(site.d_model, self.start_rate, self.threshold)

    def flops_per_position(self, site: ChunkerSite) -> float:
        """One row."""
        return 2 * site.d_model
