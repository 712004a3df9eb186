"""`hnet-lm convert`: the reference code's config and weights as a directory that `hnet_lm.load` reads."""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import tyro

from hnet_lm.checkpoint import HUB_PREFIX
from hnet_lm.cli.sources import say
from hnet_lm.conversion import convert, published_files
from hnet_lm.errors import UserError
from hnet_lm.outputs import OutputFolder
from hnet_lm.training.progress import waiting


@dataclass(frozen=True)
class Command:
    """Convert the reference code's config and weights to a saved directory. No code in a .pt file is executed."""

    files: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CONFIG WEIGHTS DIRECTORY")]
    """The config (JSON, or a name such as hnet_1stage_L), the weights (.pt or .safetensors), and where to save; an
    existing saved model is replaced. hf:owner/name, such as hf:cartesia-ai/hnet_1stage_L, replaces the first two."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; residual projections stay in float32."""

    def run(self) -> None:
        match self.files:
            case [source, directory] if source.startswith(HUB_PREFIX):
                OutputFolder.tried(directory)
                with waiting(f"fetching {source}", say):
                    config, weights = published_files(source)
            case [config, weights, directory] if not config.startswith(HUB_PREFIX):
                pass
            case _:
                raise UserError("convert takes CONFIG WEIGHTS DIRECTORY, or hf:owner/name DIRECTORY")
        with waiting(f"converting {weights}", say):
            model = convert(config, weights, directory, dtype=getattr(torch, self.precision))
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{directory}: {num_parameters:,} parameters in {self.precision}")
