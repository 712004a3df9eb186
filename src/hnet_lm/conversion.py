"""From the reference code's config and weights to a saved directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hnet_lm.checkpoint import local_directory, save
from hnet_lm.errors import CheckpointError
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import named
from hnet_lm.official import load_official
from hnet_lm.outputs import OutputFolder


def convert(
    config: str | Path | Mapping[str, Any],
    weights: str | Path | Mapping[str, Tensor],
    directory: str | Path,
    *,
    dtype: torch.dtype = torch.float32,
) -> HNetLM:
    """Save what `load_official` reads as a directory that `load` reads; returns the model.

    `config` is a JSON file, a name such as `hnet_1stage_L`, or its content; `weights` a .pt or .safetensors file, or a
    state dict. A saved model in the directory is replaced. Raises a UserError where one of them is not what it should
    be, the directory first.
    """
    OutputFolder.tried(directory)
    model = load_official(config, weights, dtype=dtype)
    save(model, directory)
    return model


def published_files(source: str) -> tuple[Path, Path]:
    """Config and weights of the reference code in a hub repository, `hf:owner/name` (extra `hf`).

    The config is the JSON file there that has the name of the weights or of the repository, else the one of that name
    in this package. Raises CheckpointError where there are no weights, several, or no config.
    """
    directory = local_directory(source, ("*.json", "*.pt", "*.safetensors"))
    weights = sorted(path for path in directory.iterdir() if path.suffix in (".pt", ".safetensors"))
    if len(weights) != 1:
        found = ", ".join(path.name for path in weights) or "none"
        raise CheckpointError(f"{source}: should hold one file of weights (.pt or .safetensors), and holds {found}")
    repository = source.rpartition("/")[2].partition("@")[0]
    for name in (weights[0].stem, repository):
        config = directory / f"{name}.json"
        config = config if config.exists() else named(name, "models")
        if config is not None:
            return config, weights[0]
    raise CheckpointError(f"{source}: has no {repository}.json, and hnet-lm has no configuration of that name")
