"""Data: from files of text, code, DNA or any bytes to packed batches, shuffled, mixed and exactly resumable.

config = DataConfig(sources=(SourceConfig("corpus/*.jsonl.zst"), SourceConfig("sample:english", weight=0.1)))
with DataLoader(config, vocab_size=256) as loader:
    batch = next(loader)              # batch.input_ids, batch.targets (t,), batch.sequences
    state = loader.state_dict()       # later: loader.load_state_dict(state)
"""

from hnet_lm.data.batch import IGNORE_INDEX, Batch
from hnet_lm.data.config import DataConfig, FastaConfig, SourceConfig
from hnet_lm.data.documents import Document
from hnet_lm.data.loader import DataLoader
from hnet_lm.data.packed import ORIGIN_COLUMNS
from hnet_lm.data.validation import documents, one_pass

__all__ = [
    "IGNORE_INDEX",
    "ORIGIN_COLUMNS",
    "Batch",
    "DataConfig",
    "DataLoader",
    "Document",
    "FastaConfig",
    "SourceConfig",
    "documents",
    "one_pass",
]
