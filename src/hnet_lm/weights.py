"""Tensors of a weights file, and a model made of them.

A model is built on the meta device, where it takes no memory, and its parameters are then replaced one by one: loading
needs the memory of one model and of one tensor. Nothing is loaded from a file that does not fit the model exactly.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.model import HNetLM
from hnet_lm.model.layers import Float32Linear

SHOWN_PROBLEMS = 3


def meta_model(config: HNetConfig) -> HNetLM:
    """The model without its weights: names and shapes only."""
    with torch.device("meta"):
        return HNetLM(config)


def read_safetensors(path: str | Path) -> dict[str, Tensor]:
    """Every tensor of a `.safetensors` file, mapped from the file until it is used. Raises CheckpointError."""
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
    except (OSError, SafetensorError) as error:
        raise unreadable(path, "not a complete .safetensors file") from error


def unreadable(path: str | Path, what: str) -> CheckpointError:
    """The error for a file that could not be read: it is not there, it may not be read, or `what` is wrong with it."""
    path = Path(path)
    if not path.exists():
        return CheckpointError(f"{path}: no such file")
    if path.is_dir():
        return CheckpointError(f"{path}: is a directory, not a file of weights")
    if not os.access(path, os.R_OK):
        return CheckpointError(f"{path}: may not be read (permissions)")
    return CheckpointError(f"{path}: {what}")


def fill(
    model: HNetLM,
    tensors: Mapping[str, Any],
    names: Mapping[str, str],
    source: str,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> HNetLM:
    """The meta model with copies of these tensors as its parameters.

    `names` gives the name in `tensors` of every parameter, `source` says in errors where they come from. `dtype` None
    keeps each as it is; residual projections stay in at least float32. Raises CheckpointError if anything does not fit.
    """
    parameters = dict(model.named_parameters())
    _check(parameters, tensors, names, source)
    wide = _float32_parameters(model)
    state = {}
    for name in parameters:
        tensor = tensors[names[name]]
        kind = tensor.dtype if dtype is None else dtype
        kind = torch.promote_types(kind, torch.float32) if name in wide else kind
        state[name] = tensor.detach().to(device=device, dtype=kind, copy=True).contiguous()
    model.load_state_dict(state, assign=True)
    return model


def _check(parameters: dict[str, nn.Parameter], tensors: Mapping[str, Any], names: Mapping[str, str], source: str):
    problems = []
    for name, parameter in parameters.items():
        shape, tensor = tuple(parameter.shape), tensors.get(names[name])
        if tensor is None:
            problems.append(f"tensor {names[name]!r} of shape {shape} is missing")
        elif not isinstance(tensor, Tensor):
            problems.append(f"{names[name]!r} must be a tensor of shape {shape}, got {type(tensor).__name__}")
        elif tuple(tensor.shape) != shape:
            problems.append(f"tensor {names[name]!r} has shape {tuple(tensor.shape)}, the config wants {shape}")
        elif not tensor.dtype.is_floating_point:
            problems.append(f"tensor {names[name]!r} is of {tensor.dtype}, which is not a floating-point type")
    known = set(names.values())
    for name, value in tensors.items():
        if name not in known:
            what = f"tensor {name!r} of shape {tuple(value.shape)}" if isinstance(value, Tensor) else f"entry {name!r}"
            problems.append(f"{what} is no part of a model of this config")
    if problems:
        shown = "; ".join(problems[:SHOWN_PROBLEMS])
        rest = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
        raise CheckpointError(f"{source}: {shown}{rest}")


def _float32_parameters(model: HNetLM) -> set[str]:
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if isinstance(module, Float32Linear)
        for name, _ in module.named_parameters()
    }
