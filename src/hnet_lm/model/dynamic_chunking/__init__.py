"""Dynamic chunking in its four parts: routing decides where to cut, the downsampler keeps the boundary vectors, the
smoothing module blends each chunk with those before it, and the upsampler gives every position its chunk's vector."""

from hnet_lm.model.dynamic_chunking.chunkers import EntropyChunker, build_chunker
from hnet_lm.model.dynamic_chunking.downsampler import Downsampler
from hnet_lm.model.dynamic_chunking.routing import Routing, RoutingModule, RoutingState
from hnet_lm.model.dynamic_chunking.smoothing import SmoothingModule, SmoothingState
from hnet_lm.model.dynamic_chunking.upsampler import Upsampler, UpsamplerState

__all__ = [
    "Downsampler",
    "EntropyChunker",
    "Routing",
    "RoutingModule",
    "RoutingState",
    "SmoothingModule",
    "SmoothingState",
    "Upsampler",
    "UpsamplerState",
    "build_chunker",
]
