"""The chunkers that learn nothing, one per file; `model/dynamic_chunking/routing.py` is the one that learns."""

from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState, before_each, positions_of

__all__ = ["FixedChunker", "SeenState", "before_each", "positions_of"]
