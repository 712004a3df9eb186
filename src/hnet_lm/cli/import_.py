"""`hnet-lm import`: a transformers directory as a directory that `hnet_lm.load` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from hnet_lm.cli.sources import say
from hnet_lm.pretrained import import_pretrained
from hnet_lm.training.progress import waiting


@dataclass(frozen=True)
class Command:
    """Convert a transformers directory to a saved model: Llama, Mistral, Qwen 2 and 3, OLMo 2 and 3, SmolLM."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """The directory, with config.json, model.safetensors (or its shards) and tokenizer.json."""
    directory: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="DIRECTORY")]
    """Where to save; an existing saved model is replaced."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights."""

    def run(self) -> None:
        with waiting(f"importing {self.source}", say):
            model = import_pretrained(self.source, self.directory, dtype=getattr(torch, self.precision))
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{self.directory}: {num_parameters:,} parameters in {self.precision}")
