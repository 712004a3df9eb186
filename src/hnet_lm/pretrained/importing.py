"""A transformers directory as a saved directory of this package: config, weights, tokenizer."""

import json
from pathlib import Path
from typing import Any

import torch

from hnet_lm.checkpoint import INDEX, WEIGHTS, read_weights, save
from hnet_lm.config import HNetConfig
from hnet_lm.data.tokenized import TOKENIZER, open_byte_pairs
from hnet_lm.errors import CheckpointError, ConfigError
from hnet_lm.generation import check_tokenizer
from hnet_lm.inputs import read_text
from hnet_lm.model import HNetLM
from hnet_lm.outputs import OutputFolder
from hnet_lm.pretrained.architecture import architecture
from hnet_lm.pretrained.names import EMBEDDING, HEAD, our_tensors, sources
from hnet_lm.weights import drop_tied_head, fill, meta_model, plain_names

CONFIG = "config.json"


def import_pretrained(
    source: str | Path, directory: str | Path, *, dtype: torch.dtype | None = torch.float32
) -> HNetLM:
    """Save the causal language model of a transformers directory as a directory that `load` reads; returns the model.

    Read are config.json, model.safetensors or its shards, and tokenizer.json. `dtype` None keeps the types of the
    weights. A saved model in the directory is replaced. Raises a UserError where anything is missing or does not fit.
    """
    OutputFolder.tried(directory)
    source = Path(source)
    if not source.is_dir():
        raise CheckpointError(f"{source}: no such directory; give one with config.json, weights and tokenizer.json")
    config = _config(source / CONFIG)
    check_tokenizer(config, open_byte_pairs(str(source / TOKENIZER)), str(source / TOKENIZER))
    model = load_transformers(config, source, dtype=dtype)
    save(model, directory, beside={TOKENIZER: (source / TOKENIZER).read_bytes()})
    return model


def load_transformers(config: HNetConfig, source: Path, *, dtype: torch.dtype | None) -> HNetLM:
    """The model with the weights of a directory. Raises CheckpointError."""
    if not (source / WEIGHTS).exists() and not (source / INDEX).exists():
        raise CheckpointError(f"{source}: has neither {WEIGHTS} nor {INDEX}; only safetensors are read")
    model, where = meta_model(config), str(source / WEIGHTS)
    names = [part.name for parts in sources(config).values() for part in parts]
    tensors = plain_names(read_weights(source), names, where)
    if config.tie_embeddings:
        drop_tied_head(tensors, HEAD, EMBEDDING, where)
    ours = our_tensors(model, tensors, where)
    return fill(model, ours, {name: name for name in ours}, where, dtype, "cpu")


def _config(path: Path) -> HNetConfig:
    text = read_text(path, ConfigError)
    try:
        data: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not JSON: {error}") from error
    try:
        return architecture(data)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
