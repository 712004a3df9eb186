"""From the reference code's config and weights to a saved directory."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hnet_lm.checkpoint import save
from hnet_lm.model import HNetLM
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
