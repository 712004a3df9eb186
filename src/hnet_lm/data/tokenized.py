"""Batches of BPE tokens made from batches of bytes: the same documents in the same order, cut at the same places.

Each sequence of a byte batch is tokenized, so in each step a model of tokens sees the bytes that a byte model sees.
`tokens_per_batch` and `max_length` still count bytes. A sequence that begins inside a document has its first byte as a
token of its own, which is context only; every other byte is in a target exactly once.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from hnet_lm.data.batch import Batch
from hnet_lm.data.config import DataConfig
from hnet_lm.data.loader import DataLoader
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.extras import import_leaf
from hnet_lm.sequences import Sequences

if TYPE_CHECKING:
    from hnet_lm.data.byte_pairs import BytePairs

TOKENIZER = "tokenizer.json"
ANY_BYTES = 258  # the vocabulary in which BOS and EOS are not bytes
BOS, EOS = ANY_BYTES - 2, ANY_BYTES - 1


class TokenizedLoader:
    """A `DataLoader` of bytes whose batches are converted to tokens."""

    def __init__(
        self,
        config: DataConfig,
        *,
        vocab_size: int,
        special_ids: tuple[int, int] | None = None,
        rank: int = 0,
        num_ranks: int = 1,
        hold_out: float = 0.0,
    ) -> None:
        """`special_ids` are BOS and EOS if they are not the last ids of the vocabulary.

        Raises ConfigError if the model's vocabulary is not the tokenizer's.
        """
        self.pairs = open_byte_pairs(config.tokenizer)
        needed = self.pairs.vocab_size if special_ids is None else self.pairs.num_tokens
        if vocab_size < needed or (special_ids is None and vocab_size > needed):
            raise ConfigError(
                f"vocab_size: the model has {vocab_size}, but {config.tokenizer} with BOS and EOS has {needed}"
            )
        self.bos_id, self.eos_id = special_ids or (vocab_size - 2, vocab_size - 1)
        self._bytes = DataLoader(config, vocab_size=ANY_BYTES, rank=rank, num_ranks=num_ranks, hold_out=hold_out)

    def __iter__(self) -> "TokenizedLoader":
        return self

    def __next__(self) -> Batch:
        batch = next(self._bytes)
        ids, targets = batch.input_ids.numpy(), batch.targets.numpy()
        ends = batch.sequences.cu_seqlens[1:].tolist()
        starts = batch.sequences.starts.tolist()
        sequences = [self._tokens(ids[a:b], int(targets[b - 1])) for a, b in zip(starts, ends, strict=True)]
        return Batch(
            torch.from_numpy(np.concatenate([tokens[:-1] for tokens in sequences])),
            torch.from_numpy(np.concatenate([tokens[1:] for tokens in sequences])),
            Sequences.from_lengths([len(tokens) - 1 for tokens in sequences]),
            batch.origin,
            batch.num_bytes,
        )

    def _tokens(self, ids: np.ndarray, last: int) -> np.ndarray:
        """Of a sequence of bytes, perhaps with BOS before them, and the byte or EOS that follows them."""
        first = self.bos_id if ids[0] == BOS else self.pairs.encode_byte(int(ids[0]))
        text = bytes([*ids[1:].tolist(), *([] if last == EOS else [last])])
        end = [self.eos_id] if last == EOS else []
        return np.concatenate([[first], self.pairs.encode(text).ids, end]).astype(np.int64)

    @property
    def num_skipped(self) -> int:
        """Damaged files and records skipped by the loader of bytes."""
        return self._bytes.num_skipped

    def state_dict(self) -> dict[str, Any]:
        return self._bytes.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._bytes.load_state_dict(state)

    def close(self) -> None:
        self._bytes.close()


def open_byte_pairs(path: str) -> "BytePairs":
    """The tokenizer of a `tokenizer.json`. Raises DataError."""
    return import_leaf("hnet_lm.data.byte_pairs", "eval", f"reading {path}", DataError).BytePairs(path)


Loader = DataLoader | TokenizedLoader


def open_loader(
    config: DataConfig, *, vocab_size: int, special_ids: tuple[int, int] | None = None, **options: Any
) -> Loader:
    """The batches of one rank: of bytes, or of tokens if the configuration names a tokenizer.

    `special_ids` are BOS and EOS of a model of tokens whose last ids they are not. The other options are those of the
    loaders: rank, num_ranks, and hold_out, the fraction of the documents that is left out (`documents`
    gives these with the same fraction).
    """
    if config.tokenizer:
        return TokenizedLoader(config, vocab_size=vocab_size, special_ids=special_ids, **options)
    return DataLoader(config, vocab_size=vocab_size, **options)
