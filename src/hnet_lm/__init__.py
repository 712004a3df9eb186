"""Hierarchical byte-level sequence models with learned dynamic chunking (H-Net).

    model = hnet_lm.load("english-small")
    hnet_lm.generate(model, ["Once upon a time"], max_new_bytes=200)

Names are imported when they are first used, so that importing the package is cheap and does not import torch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hnet_lm import losses as losses
    from hnet_lm import official as official
    from hnet_lm import ops as ops
    from hnet_lm.checkpoint import load as load
    from hnet_lm.checkpoint import save as save
    from hnet_lm.config import HNetConfig as HNetConfig
    from hnet_lm.conversion import convert as convert
    from hnet_lm.data import Batch as Batch
    from hnet_lm.data import DataConfig as DataConfig
    from hnet_lm.data import DataLoader as DataLoader
    from hnet_lm.data import SourceConfig as SourceConfig
    from hnet_lm.errors import UserError as UserError
    from hnet_lm.evaluation.embeddings import Embeddings as Embeddings
    from hnet_lm.evaluation.embeddings import embed as embed
    from hnet_lm.generation import Score as Score
    from hnet_lm.generation import generate as generate
    from hnet_lm.generation import score as score
    from hnet_lm.generation import stream as stream
    from hnet_lm.inspect import Chunks as Chunks
    from hnet_lm.inspect import chunks as chunks
    from hnet_lm.model import HNetLM as HNetLM
    from hnet_lm.model import HNetOutput as HNetOutput
    from hnet_lm.official import load_official as load_official
    from hnet_lm.pretrained import import_pretrained as import_pretrained
    from hnet_lm.sequences import Sequences as Sequences
    from hnet_lm.tokenizer import load_tokenizer as load_tokenizer
    from hnet_lm.trained_models import TrainedModel as TrainedModel
    from hnet_lm.trained_models import models as models
    from hnet_lm.training.config import RunConfig as RunConfig
    from hnet_lm.training.loop import train as train
    from hnet_lm.training.optimizer import OptimizerConfig as OptimizerConfig
    from hnet_lm.training.optimizer import build_optimizer as build_optimizer
    from hnet_lm.training.run import TrainState as TrainState

_MODULES = ("losses", "official", "ops")
_NAMES_OF = {
    "checkpoint": ("load", "save"),
    "config": ("HNetConfig",),
    "conversion": ("convert",),
    "data": ("Batch", "DataConfig", "DataLoader", "SourceConfig"),
    "errors": ("UserError",),
    "evaluation.embeddings": ("Embeddings", "embed"),
    "generation": ("Score", "generate", "score", "stream"),
    "inspect": ("Chunks", "chunks"),
    "model": ("HNetLM", "HNetOutput"),
    "official": ("load_official",),
    "pretrained": ("import_pretrained",),
    "sequences": ("Sequences",),
    "tokenizer": ("load_tokenizer",),
    "trained_models": ("TrainedModel", "models"),
    "training.config": ("RunConfig",),
    "training.loop": ("train",),
    "training.optimizer": ("OptimizerConfig", "build_optimizer"),
    "training.run": ("TrainState",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"hnet_lm.{name}")
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f"hnet_lm.{_MODULE_OF[name]}"), name)
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("hnet-lm")
    raise AttributeError(f"module 'hnet_lm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*_MODULES, *_MODULE_OF, "__version__"])
