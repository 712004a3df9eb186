"""Data: from files of text, code, DNA or any bytes to packed batches, shuffled, mixed and exactly resumable.

    config = DataConfig(sources=(SourceConfig("corpus/*.jsonl.zst"), SourceConfig("sample:english", weight=0.1)))
    with DataLoader(config, vocab_size=256) as loader:
        batch = next(loader)              # batch.input_ids, batch.targets (t,), batch.sequences
        state = loader.state_dict()       # later: loader.load_state_dict(state)

Modules that need torch are imported on first use, so that workers and commands that only read a configuration start
fast.
"""

import importlib
from typing import TYPE_CHECKING, Any

from hnet_lm.data.config import DATA_FORMATS, CurriculumConfig, DataConfig, FastaConfig, SourceConfig
from hnet_lm.data.formats.format import DataFormat
from hnet_lm.data.packed import ORIGIN_COLUMNS
from hnet_lm.data.parts import Document, FileRequest, Part, Position

if TYPE_CHECKING:
    from hnet_lm.data.batch import Batch
    from hnet_lm.data.loader import DataLoader, whole_state
    from hnet_lm.data.tokenized import open_byte_pairs, open_loader
    from hnet_lm.data.validation import documents, one_pass
    from hnet_lm.sequences import IGNORE_INDEX

__all__ = [
    "DATA_FORMATS",
    "IGNORE_INDEX",
    "ORIGIN_COLUMNS",
    "Batch",
    "CurriculumConfig",
    "DataConfig",
    "DataFormat",
    "DataLoader",
    "Document",
    "FastaConfig",
    "FileRequest",
    "Part",
    "Position",
    "SourceConfig",
    "documents",
    "one_pass",
    "open_byte_pairs",
    "open_loader",
    "whole_state",
]

_MODULE_OF = {
    "IGNORE_INDEX": "batch",
    "Batch": "batch",
    "DataLoader": "loader",
    "documents": "validation",
    "open_byte_pairs": "tokenized",
    "open_loader": "tokenized",
    "one_pass": "validation",
    "whole_state": "loader",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
