"""`hnet-lm convert`: the reference code's config and weights as a directory that `hnet_lm.load` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from hnet_lm.cli.sources import say
from hnet_lm.conversion import convert
from hnet_lm.training.progress import waiting


@dataclass(frozen=True)
class Command:
    """Make a saved directory of the reference code's config and weights. Nothing in a .pt file is run."""

    config: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]
    """The config (JSON, or a name such as hnet_1stage_L)."""
    weights: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="WEIGHTS")]
    """The weights, .pt or .safetensors."""
    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIRECTORY")]
    """Where to save; a saved model that is there is replaced."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; residual projections stay in float32."""

    def run(self) -> None:
        with waiting(f"converting {self.weights}", say):
            model = convert(self.config, self.weights, self.directory, dtype=getattr(torch, self.precision))
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{self.directory}: {num_parameters:,} parameters in {self.precision}")
