"""The tokenizer of a saved model of tokens, which lies beside its weights."""

from pathlib import Path
from typing import TYPE_CHECKING

from hnet_lm.checkpoint import local_directory
from hnet_lm.data.tokenized import TOKENIZER, open_byte_pairs

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs


def load_tokenizer(source: str | Path) -> "BytePairs":
    """The tokenizer of a model saved in a directory, or on the hub as `hf:owner/name`. Raises DataError."""
    return open_byte_pairs(str(local_directory(source, (TOKENIZER,)) / TOKENIZER))
