"""A boundary every k positions, as pooling with a fixed stride has it: H-Net (pool) of the paper, k = 6."""

from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool
from torch import Tensor

from hnet_lm.checks import require_whole
from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState, positions_of
from hnet_lm.sequences import Sequences


class PoolChunker(FixedChunker):
    """b_t = (t mod stride = 0). State: how many positions have been seen (`SeenState`)."""

    def __init__(self, stride: int):
        super().__init__()
        self.stride = stride

    def cut(self, seqs: Sequences, state: SeenState | None) -> tuple[Bool[Tensor, " t"], SeenState | None]:
        positions, state = positions_of(seqs, state)
        return positions % self.stride == 0, state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device)


@dataclass(frozen=True)
class PoolChunkerConfig(ChunkerConfig):
    """A boundary every `stride` positions."""

    stride: int = 6

    def __post_init__(self) -> None:
        require_whole("chunkers.pool.stride", self.stride, 2)

    def build(self, site: ChunkerSite) -> PoolChunker:
        return PoolChunker(self.stride)

    @property
    def nominal_ratio(self) -> float:
        return float(self.stride)

    @classmethod
    def for_ratio(cls, positions_per_chunk: float) -> Self:
        return cls(max(2, round(positions_per_chunk)))
