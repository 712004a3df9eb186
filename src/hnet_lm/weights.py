"""Tensors of a weights file, and a model made of them.

A model is built on the meta device, where it takes no memory, and its parameters are then replaced one by one: loading
needs the memory of one model and of one tensor. Nothing is loaded from a file that does not fit the model exactly.
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.model import HNetLM
from hnet_lm.model.layers import Float32Linear

SHOWN_PROBLEMS = 3

STATE_DICTS = ("state_dict", "model_state_dict", "model", "module", "weights")
"""Under these names training loops save a state dict beside the optimizer's and their own."""
DEEPEST = 3
WRAPPERS = ("module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module")
"""Modules that frameworks put around others, and so into their names; none of ours is called so."""

HEAD_BYTES = 64
OTHER_KINDS = {
    b"version https://git-lfs": "a Git LFS pointer, not the weights themselves; fetch them with `git lfs pull`",
    b"<!doctype html": "a web page, not weights; the download went wrong (a login?)",
    b"<html": "a web page, not weights; the download went wrong (a login?)",
    b"gguf": "a GGUF file; weights are read from .pt or .safetensors files",
    b"\x89hdf": "an HDF5 file; weights are read from .pt or .safetensors files",
    b"\x1f\x8b": "compressed with gzip; unpack it first",
    b"(\xb5/\xfd": "compressed with zstd; unpack it first",
}
"""What is found under the names of weights files, by its first bytes in lower case."""


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
    """The error for a file that could not be read: it is not there, it may not be read, it is something else than its
    name says, or `what` is wrong with it."""
    path = Path(path)
    if not path.exists():
        return CheckpointError(f"{path}: no such file")
    if path.is_dir():
        return CheckpointError(f"{path}: is a directory, not a file of weights")
    if not os.access(path, os.R_OK):
        return CheckpointError(f"{path}: may not be read (permissions)")
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    found = next((kind for first, kind in OTHER_KINDS.items() if head.lower().startswith(first)), None)
    return CheckpointError(f"{path}: {what}" if found is None else f"{path}: is {found}")


def plain_names(tensors: Mapping[str, Any], wanted: Collection[str], source: str) -> dict[str, Any]:
    """The tensors of a state dict without what frameworks put around it, as long as `wanted` names do not fit.

    A dictionary that holds the state dict (`{"state_dict": ...}`, `{"model": ...}`) is opened, and parts of names are
    left out: those of wrappers wherever they are (`_orig_mod.` of torch.compile, `module.` of DDP, those of FSDP),
    and one prefix that all wanted names have in common. Raises CheckpointError where that leaves a choice.
    """
    found = _inner(dict(tensors), wanted, source)
    if set(wanted) <= found.keys():
        return found
    renamed: dict[str, Any] = {}
    for name, value in found.items():
        short = ".".join(part for part in str(name).split(".") if part not in WRAPPERS)
        if short in renamed:
            raise CheckpointError(f"{source}: {name!r} and another tensor are both {short!r} without their wrappers")
        renamed[short] = value
    prefix = _common_prefix(renamed, wanted)
    return {name.removeprefix(prefix): value for name, value in renamed.items()}


def _inner(tensors: dict[str, Any], wanted: Collection[str], source: str) -> dict[str, Any]:
    """The state dict inside of what a training loop saved."""
    for _ in range(DEEPEST):
        inner = [key for key in STATE_DICTS if isinstance(tensors.get(key), Mapping)]
        if not inner or any(name in tensors for name in wanted):
            return tensors
        if len(inner) > 1:
            raise CheckpointError(
                f"{source}: holds more than one state dict ({', '.join(map(repr, inner))}); save the one that is meant"
            )
        tensors = dict(tensors[inner[0]])
    return tensors


def _common_prefix(tensors: Mapping[str, Any], wanted: Collection[str]) -> str:
    """The text that stands in front of every wanted name; empty if there is none."""
    first = next(iter(wanted))
    for name in tensors:
        prefix = name.removesuffix(first)
        if name.endswith(f".{first}") and all(prefix + other in tensors for other in wanted):
            return prefix
    return ""


def fill(
    model: HNetLM,
    tensors: Mapping[str, Any],
    names: Mapping[str, str],
    source: str,
    dtype: torch.dtype | None,
    device: torch.device | str,
) -> HNetLM:
    """The meta model with copies of these tensors as its parameters.

    `names` gives the name in `tensors` of every parameter (see `plain_names`), `source` says in errors where they come
    from. `dtype` None keeps each as it is; residual projections stay in at least float32. Raises CheckpointError if
    anything does not fit.
    """
    parameters = dict(model.named_parameters())
    tensors = plain_names(tensors, names.values(), source)
    check_tensors(parameters, tensors, names, source)
    wide = _float32_parameters(model)
    state = {}
    for name in parameters:
        tensor = tensors[names[name]]
        kind = tensor.dtype if dtype is None else dtype
        kind = torch.promote_types(kind, torch.float32) if name in wide else kind
        state[name] = tensor.detach().to(device=device, dtype=kind, copy=True).contiguous()
    model.load_state_dict(state, assign=True)
    return model


def drop_tied_head(tensors: dict[str, Any], head: str, embedding: str, source: str) -> None:
    """A file of a tied model may hold the one matrix under both names. Raises CheckpointError where they differ."""
    first, second = tensors.pop(head, None), tensors.get(embedding)
    if isinstance(first, Tensor) and isinstance(second, Tensor) and not torch.equal(first, second):
        raise CheckpointError(
            f"{source}: {head!r} {tuple(first.shape)} differs from {embedding!r} {tuple(second.shape)}, "
            "but the config ties them"
        )


def check_tensors(
    parameters: Mapping[str, Tensor], tensors: Mapping[str, Any], names: Mapping[str, str], source: str
) -> None:
    """Raises CheckpointError unless there is a tensor of the right shape for every parameter, and no other."""
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
