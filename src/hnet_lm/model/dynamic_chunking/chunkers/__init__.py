"""What may stand in the routing module's place, one chunker per file."""

from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState, before_each, positions_of

__all__ = ["FixedChunker", "SeenState", "before_each", "positions_of"]
