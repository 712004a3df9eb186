"""Dynamic chunking in its four parts: routing decides where to cut, the downsampler keeps the boundary vectors, the
smoothing module blends each chunk with those before it, and the upsampler gives every position its chunk's vector."""

from hnet_lm.model.dynamic_chunking.byte_smoothing import ByteSmoothing
from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.model.dynamic_chunking.chunkers import FixedChunker
from hnet_lm.model.dynamic_chunking.downsampler import Downsampler
from hnet_lm.model.dynamic_chunking.routing import RoutingModule, RoutingState
from hnet_lm.model.dynamic_chunking.smoothing import NoSmoothing, Smoothing, SmoothingModule, SmoothingState
from hnet_lm.model.dynamic_chunking.upsampler import (
    ConfidenceUpsampler,
    UnweighedUpsampler,
    Upsampler,
    UpsamplerState,
)

__all__ = [
    "ByteSmoothing",
    "Chunker",
    "ConfidenceUpsampler",
    "Downsampler",
    "FixedChunker",
    "NoSmoothing",
    "Routing",
    "RoutingModule",
    "RoutingState",
    "Smoothing",
    "SmoothingModule",
    "SmoothingState",
    "UnweighedUpsampler",
    "Upsampler",
    "UpsamplerState",
]
