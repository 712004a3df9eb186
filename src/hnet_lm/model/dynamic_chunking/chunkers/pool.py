"""A boundary every k positions, as pooling with a fixed stride has it: H-Net (pool) of the paper, k = 6."""

import torch
from jaxtyping import Bool
from torch import Tensor

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
