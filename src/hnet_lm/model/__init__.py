"""The paper: `HNetLM` (lm.py) is an embedding, an `HNet` (hnet.py) and a head."""

from hnet_lm.model.dynamic_chunking import Chunker, FixedChunker, Routing
from hnet_lm.model.hnet import HNet
from hnet_lm.model.lm import HNetLM, HNetOutput

__all__ = ["Chunker", "FixedChunker", "HNet", "HNetLM", "HNetOutput", "Routing"]
