"""The chunkers that learn nothing, one per file; `model/dynamic_chunking/routing.py` is the one that learns."""

from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker

__all__ = ["FixedChunker"]
