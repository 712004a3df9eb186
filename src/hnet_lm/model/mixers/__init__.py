"""The two mixers a block may have: each is `forward(x, seqs, state) -> (y, state)`."""

from hnet_lm.model.mixers.attention import Attention
from hnet_lm.model.mixers.mamba2 import Mamba2, Mamba2State

__all__ = ["Attention", "Mamba2", "Mamba2State"]
