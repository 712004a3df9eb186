"""What may stand in the routing module's place: the chunker of each stage, by the configuration's `chunkers`."""

from torch import nn

from hnet_lm.chunker_config import (
    DynamicChunkerConfig,
    EntropyChunkerConfig,
    OracleChunkerConfig,
    PoolChunkerConfig,
    RandomChunkerConfig,
    SpaceChunkerConfig,
)
from hnet_lm.config import HNetConfig
from hnet_lm.model.dynamic_chunking.chunkers.entropy import EntropyChunker
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker
from hnet_lm.model.dynamic_chunking.chunkers.oracle import OracleChunker
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunker
from hnet_lm.model.dynamic_chunking.chunkers.random import RandomChunker
from hnet_lm.model.dynamic_chunking.chunkers.space import SpaceChunker
from hnet_lm.model.dynamic_chunking.routing import RoutingModule

__all__ = ["EntropyChunker", "FixedChunker", "build_chunker"]


def build_chunker(config: HNetConfig, stage: int, byte_model: nn.Module | None) -> RoutingModule | FixedChunker:
    """The module that cuts a stage. `byte_model` is the one that an entropy chunker asks."""
    match config.chunker(stage):
        case DynamicChunkerConfig():
            return RoutingModule(config.stages[stage].d_model)
        case SpaceChunkerConfig():
            return SpaceChunker(config.bos_id)
        case PoolChunkerConfig(stride=stride):
            return PoolChunker(stride)
        case RandomChunkerConfig(rate=rate, seed=seed):
            return RandomChunker(rate, seed)
        case OracleChunkerConfig():
            return OracleChunker()
        case EntropyChunkerConfig(threshold=threshold):
            assert byte_model is not None  # the configuration has one where it has this chunker
            return EntropyChunker(threshold, byte_model)
    raise AssertionError(config.chunkers)
