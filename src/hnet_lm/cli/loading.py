"""Loads the model of a command with weights of the chosen type, and its tokenizer."""

from typing import TYPE_CHECKING, Annotated

import tyro

from hnet_lm.checkpoint import load
from hnet_lm.cli.device import find_device
from hnet_lm.cli.sources import say
from hnet_lm.generation.rounded_weights import Weights, with_weights
from hnet_lm.model import HNetLM
from hnet_lm.tokenizer import load_tokenizer
from hnet_lm.training.progress import waiting

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

PrecisionOption = Annotated[
    Weights | None,
    tyro.conf.arg(
        help="Type of the weights: bfloat16 halves them, int8 quarters those of the linear maps; by default as saved."
    ),
]


def load_model(source: str, device: str, precision: PrecisionOption = None) -> HNetLM:
    """A saved or a hub model. Raises CheckpointError or ConfigError, and UserError for a missing device."""
    with waiting(f"loading {source}", say):
        model = load(source, device=find_device(device))
    return model if precision is None else with_weights(model, precision)


def tokenizer_of(source: str, model: HNetLM) -> "BytePairs | None":
    """The tokenizer in the folder of a model of tokens; None for a model of bytes. Raises DataError."""
    return load_tokenizer(source) if model.config.reads_tokens else None
