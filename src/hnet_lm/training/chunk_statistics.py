"""What the routing of one stage did: sums that add up over micro-batches and ranks, and the figures they give."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from hnet_lm.model import Routing


@dataclass(frozen=True)
class ChunkStatistics:
    """Figures of one stage; lengths are in positions of that stage."""

    boundary_fraction: float
    mean_boundary_prob: float
    chunk_length_sd: float

    @property
    def mean_chunk_length(self) -> float:
        return 1 / self.boundary_fraction

    @classmethod
    def from_sums(cls, sums: Tensor) -> "ChunkStatistics":
        positions, chunks, prob, squared_lengths = sums.tolist()
        variance = squared_lengths / chunks - (positions / chunks) ** 2
        return cls(chunks / positions, prob / positions, math.sqrt(max(0.0, variance)))


def chunk_sums(routing: Routing) -> Tensor:
    """Positions, chunks, sum of probabilities and of squared chunk lengths of a packed routing, in float64."""
    starts = routing.is_boundary.nonzero().squeeze(1)  # each sequence begins with one
    lengths = torch.diff(starts, append=starts.new_tensor([len(routing.is_boundary)])).double()
    prob = routing.boundary_prob.detach().double().sum()
    return torch.stack([lengths.sum(), lengths.new_tensor(len(lengths)), prob, lengths.square().sum()])
