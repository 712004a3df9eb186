"""The modules that a step which is not the model's forward may stand for: calls that do what their classes say."""

from torch import nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block, PostNormBlock
from hnet_lm.model.dynamic_chunking import Downsampler, RoutingModule, SmoothingModule, Upsampler
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunker
from hnet_lm.model.dynamic_chunking.chunkers.random import RandomChunker
from hnet_lm.model.dynamic_chunking.chunkers.space import SpaceChunker
from hnet_lm.model.hnet import HNet
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.model.layers import CausalConv, Float32Linear, GatedMLP, RMSNorm, Widen
from hnet_lm.model.mixers import Attention, Mamba2
from hnet_lm.model.written import is_as_written

MODULES: tuple[type[nn.Module], ...] = (
    *(HNetLM, HNet, Isotropic, Block, PostNormBlock, Mamba2, Attention),
    *(GatedMLP, RMSNorm, CausalConv, Float32Linear, Widen),
    *(RoutingModule, PoolChunker, RandomChunker, SpaceChunker, Downsampler, SmoothingModule, Upsampler),
    *(RoundedLinear, nn.Linear, nn.Embedding, nn.Identity, nn.ModuleList),
)
"""Classes that every such step knows. Not their subclasses, which may do anything."""


def why_unknown(module: nn.Module, known: tuple[type[nn.Module], ...]) -> str | None:
    """None for a module of these classes as it is written, whose weights are plain; else what is unknown about it."""
    if type(module) not in known:
        return f"is a {type(module).__name__}"
    if not is_as_written(module, type(module)):
        return "has hooks, or a forward of its own"
    for name, weight in module.named_parameters(recurse=False):
        if type(weight) is not nn.Parameter:  # as of libraries that quantise
            return f"has a {name} that is a {type(weight).__name__}"
    return None
