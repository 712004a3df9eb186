"""Boundaries that know nothing of the data: how good are chunks of the right length in the wrong places?

Each position is one with a given probability. The draw is a hash of the seed and the position's index, so it is the
same in every call, for every sequence, and however a sequence is cut into calls.
"""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hnet_lm.checks import require_number, require_whole
from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState, positions_of
from hnet_lm.sequences import Sequences

# The constants of splitmix64 (Steele, Lea, Flood 2014) as signed 64-bit integers, which wrap around in torch.
INCREMENT = 0x9E3779B97F4A7C15 - 2**64
MULTIPLIERS = (0xBF58476D1CE4E5B9 - 2**64, 0x94D049BB133111EB - 2**64)
SHIFTS = (30, 27, 31)


class RandomChunker(FixedChunker):
    """b_t = (t = 0 or u(seed, t) < rate), u uniform in [0, 1). State: positions seen (`SeenState`)."""

    def __init__(self, rate: float, seed: int):
        super().__init__()
        self.rate = rate
        self.seed = seed

    def cut(self, seqs: Sequences, state: SeenState | None) -> tuple[Bool[Tensor, " t"], SeenState | None]:
        positions, state = positions_of(seqs, state)
        return (positions == 0) | (uniform(self.seed, positions) < self.rate), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device)


def uniform(seed: int, index: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """Numbers in [0, 1), in float64, each from the seed and its index alone (splitmix64)."""
    # The seed is spread over all bits first: seeds that differ by 1 would otherwise give the same draws, shifted by 1.
    start = _mix(index.new_full((1,), seed + 1) * INCREMENT)
    return (_mix(start + index * INCREMENT) >> 11 & (2**53 - 1)).double() / 2**53


def _mix(x: Int[Tensor, " n"]) -> Int[Tensor, " n"]:
    for shift, multiplier in zip(SHIFTS, MULTIPLIERS, strict=False):
        x = (x ^ _shifted(x, shift)) * multiplier
    return x ^ _shifted(x, SHIFTS[-1])


def _shifted(x: Int[Tensor, " n"], by: int) -> Int[Tensor, " n"]:
    """Right shift that fills with zeros, as of an unsigned integer."""
    return x >> by & (2 ** (64 - by) - 1)


@dataclass(frozen=True)
class RandomChunkerConfig(ChunkerConfig):
    """A boundary at each position with probability `rate`, drawn from `seed` and the position's index."""

    rate: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        require_number("chunkers.random.rate", self.rate, above=0, below=1)
        require_whole("chunkers.random.seed", self.seed, 0, 2**31 - 1)

    def build(self, site: ChunkerSite) -> RandomChunker:
        return RandomChunker(self.rate, self.seed)

    @property
    def nominal_ratio(self) -> float:
        return 1 / self.rate

    @classmethod
    def for_ratio(cls, positions_per_chunk: float) -> Self:
        return cls(1 / positions_per_chunk)
