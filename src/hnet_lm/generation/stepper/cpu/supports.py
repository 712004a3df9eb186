"""Which models the compiled step can stand for: those of known modules, whose calls do what their classes say."""

import torch
from torch import nn

from hnet_lm.generation.rounded_weights import RoundedLinear
from hnet_lm.generation.stepper.cpu.attention import MAX_HEAD_DIM
from hnet_lm.generation.stepper.cpu.mamba2 import MAX_STATE
from hnet_lm.generation.stepper.known_modules import MODULES, why_unknown
from hnet_lm.model import HNetLM
from hnet_lm.model.mixers import Attention, Mamba2

DTYPES = (torch.float32, torch.float64)


def unsupported(model: HNetLM) -> str | None:
    """Why the compiled step cannot stand for this model's forward; None if it can."""
    dtype = model.embedding.weight.dtype
    if dtype not in DTYPES:
        return f"it computes in {dtype}"
    for name, module in model.named_modules():
        reason = _unsupported_module(module) or _unsupported_weights(module, dtype)
        if reason is None and _has_unknown_bias(name, module):
            reason = "has a bias"
        if reason is not None:
            return f"{name or 'the model'} {reason}"
    return None


def _unsupported_module(module: nn.Module) -> str | None:
    if (unknown := why_unknown(module, MODULES)) is not None:
        return unknown
    if isinstance(module, Attention) and module.head_dim > MAX_HEAD_DIM:
        return f"has heads of width {module.head_dim}, more than {MAX_HEAD_DIM}"
    if isinstance(module, Mamba2) and module.d_state > MAX_STATE:
        return f"has a d_state of {module.d_state}, more than {MAX_STATE}"
    return None


def _has_unknown_bias(name: str, module: nn.Module) -> bool:
    has_bias = type(module) in (nn.Linear, RoundedLinear) and module.bias is not None
    return has_bias and not name.endswith("qkv_proj")


def _unsupported_weights(module: nn.Module, dtype: torch.dtype) -> str | None:
    for name, weight in module.named_parameters(recurse=False):
        if weight.layout != torch.strided:
            return f"has a {name} that is a {type(weight).__name__}"
        if weight.device.type != "cpu" or not weight.is_contiguous():
            return f"has a {name} on {weight.device}, of strides {weight.stride()}"
        if weight.dtype != dtype and not (isinstance(module, RoundedLinear) and name == "numbers"):
            return f"has a {name} of {weight.dtype} in a model that computes in {dtype}"
    return None
