"""Hashed n-gram embeddings: the configuration's extension key `ngrams`, of a model of bytes.

    "ngrams": {"sizes": [2, 3, 4, 5, 6], "num_rows": 4096}

Each position gets, beside the embedding of its byte, a vector for each of the n-grams that end there, from a table of
`num_rows` rows per size in which a hash finds the row (`model/ngrams.py`). A plain H-Net has no such key; an empty
object takes the defaults. They are hash n-gram embeddings of BLT (Pagnoni et al., arXiv 2412.09871), which has sizes 3
to 8 and 500,000 rows for each of them in models of billions of parameters; ours are for models that train in minutes.
"""

from dataclasses import dataclass
from typing import Any

from hnet_lm.checks import require_size
from hnet_lm.errors import ConfigError
from hnet_lm.tables import from_table

MAX_SIZE = 64


@dataclass(frozen=True)
class NgramConfig:
    """Which n-grams have vectors, and in how many rows per size they are hashed."""

    sizes: tuple[int, ...] = (2, 3, 4, 5, 6)
    num_rows: int = 4096

    def __post_init__(self) -> None:
        if not self.sizes:
            raise ConfigError("ngrams.sizes: is empty; name the lengths of the n-grams, or leave out ngrams")
        for size in self.sizes:
            require_size("ngrams.sizes", size, least=2)
        if list(self.sizes) != sorted(set(self.sizes)) or self.sizes[-1] > MAX_SIZE:
            raise ConfigError(f"ngrams.sizes: must rise and end at {MAX_SIZE} or below, got {list(self.sizes)}")
        require_size("ngrams.num_rows", self.num_rows, least=1)


def parse_ngrams(entry: Any) -> NgramConfig:
    """From a configuration. Raises ConfigError."""
    if not isinstance(entry, dict):
        raise ConfigError(f"ngrams: must be an object with the keys sizes, num_rows, got {entry!r}")
    return from_table(NgramConfig, entry, "ngrams")
