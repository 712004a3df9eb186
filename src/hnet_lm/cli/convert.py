"""`hnet-lm convert`: the reference code's config and weights, or an adapter and its model, as one that `load` reads."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro

from hnet_lm import checkpoint
from hnet_lm.checkpoint import ADAPTER_CONFIG, HUB_PREFIX
from hnet_lm.cli.sources import say
from hnet_lm.conversion import convert, published_files
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.model import HNetLM
from hnet_lm.outputs import OutputFolder
from hnet_lm.training.progress import waiting

USAGE = "convert takes CONFIG WEIGHTS DIRECTORY, hf:owner/name DIRECTORY, or ADAPTER DIRECTORY"


@dataclass(frozen=True)
class Command:
    """Convert the reference code's config and weights, or an adapter of peft's, to a saved directory. No code in a .pt
    file is executed."""

    files: Annotated[
        tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="CONFIG WEIGHTS DIRECTORY | ADAPTER DIRECTORY")
    ]
    """The config (JSON, or a name such as hnet_1stage_L), the weights (.pt or .safetensors), and where to save; an
    existing saved model is replaced. hf:owner/name, such as hf:cartesia-ai/hnet_1stage_L, replaces the first two,
    and so does the folder of an adapter (LoRA), which is added to the weights of the model it was trained for."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights; residual projections stay in float32."""

    def run(self) -> None:
        dtype = getattr(torch, self.precision)
        match self.files:
            case [source, directory] if source.startswith(HUB_PREFIX):
                OutputFolder.tried(directory)
                with waiting(f"fetching {source}", say):
                    config, weights = published_files(source)
                model = _converted(config, weights, directory, dtype)
            case [config, weights, directory] if not config.startswith(HUB_PREFIX):
                model = _converted(config, weights, directory, dtype)
            case [source, directory]:
                model = _merged(source, directory, dtype)
            case _:
                raise UserError(USAGE)
        num_parameters = sum(parameter.numel() for parameter in model.parameters())
        print(f"{directory}: {num_parameters:,} parameters in {self.precision}")


def _converted(config: str | Path, weights: str | Path, directory: str, dtype: torch.dtype) -> HNetLM:
    """Saved as well."""
    with waiting(f"converting {weights}", say):
        return convert(config, weights, directory, dtype=dtype)


def _merged(source: str, directory: str, dtype: torch.dtype) -> HNetLM:
    """The model of an adapter with what that has learned, saved as well; its tokenizer comes along."""
    if not Path(source, ADAPTER_CONFIG).exists():
        what = f"has no {ADAPTER_CONFIG}" if Path(source).is_dir() else "no such folder"
        raise UserError(f"{source}: {what}; {USAGE}")
    OutputFolder.tried(directory)
    saved = import_leaf("hnet_lm.lora", "lora", f"reading {source}").SavedAdapter(source)
    if Path(saved.base).resolve() == Path(directory).resolve():
        raise UserError(f"{directory}: is the model that the adapter is for, which it is not added to in place")
    with waiting(f"converting {source}", say):
        model = saved.merged(dtype)
        tokenizer = Path(checkpoint.local_directory(saved.base, (TOKENIZER,)), TOKENIZER)
        beside = {TOKENIZER: tokenizer.read_bytes()} if model.config.reads_tokens else {}
        checkpoint.save(model, directory, beside=beside)
    return model
