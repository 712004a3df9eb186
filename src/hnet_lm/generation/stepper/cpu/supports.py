"""Which models the compiled step can stand for: those of known modules, whose calls do what their classes say."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from hnet_lm.generation.smaller_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.attention import MAX_HEAD_DIM
from hnet_lm.generation.stepper.cpu.mamba2 import MAX_STATE
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block
from hnet_lm.model.dynamic_chunking import Downsampler, RoutingModule, SmoothingModule, Upsampler
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunker
from hnet_lm.model.dynamic_chunking.chunkers.random import RandomChunker
from hnet_lm.model.dynamic_chunking.chunkers.space import SpaceChunker
from hnet_lm.model.hnet import HNet
from hnet_lm.model.isotropic import Isotropic
from hnet_lm.model.layers import CausalConv, Float32Linear, GatedMLP, RMSNorm, Widen
from hnet_lm.model.mixers import Attention, Mamba2

MODULES = (
    *(HNetLM, HNet, Isotropic, Block, Mamba2, Attention, GatedMLP, RMSNorm, CausalConv, Float32Linear, Widen),
    *(RoutingModule, PoolChunker, RandomChunker, SpaceChunker, Downsampler, SmoothingModule, Upsampler),
    *(RoundedLinear, nn.Linear, nn.Embedding, nn.Identity, nn.ModuleList),
)
"""Classes that the compiled step knows. Not their subclasses, which may do anything."""

DTYPES = (torch.float32, torch.float64)

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def unsupported(model: HNetLM) -> str | None:
    """Why the compiled step cannot stand for this model's forward; None if it can."""
    for name, module in model.named_modules():
        name = name or "the model"
        if type(module) not in MODULES:
            return f"{name} is a {type(module).__name__}"
        if "forward" in module.__dict__ or any(getattr(module, hooks) for hooks in HOOKS):
            return f"{name} has hooks, or a forward of its own"
        if parametrize.is_parametrized(module):
            return f"{name} is parametrized"
        if isinstance(module, nn.Linear) and not isinstance(module, Float32Linear) and module.bias is not None:
            return f"{name} has a bias"
        if isinstance(module, Attention) and module.head_dim > MAX_HEAD_DIM:
            return f"{name} has heads of width {module.head_dim}, more than {MAX_HEAD_DIM}"
        if isinstance(module, Mamba2) and module.d_state > MAX_STATE:
            return f"{name} has a d_state of {module.d_state}, more than {MAX_STATE}"
    return _unsupported_weights(model.parameters())


def _unsupported_weights(weights: Iterable[Tensor]) -> str | None:
    for weight in weights:
        if weight.device.type != "cpu":
            return f"its weights are on {weight.device}"
        if weight.is_floating_point() and weight.dtype not in (*DTYPES, torch.bfloat16):
            return f"it has weights of {weight.dtype}"
    return None
