"""A stream: endless batches, in an order that depends on the configuration alone.

A stream fills a block from the mixture, shuffles it, yields its batches, and fills the next one. A block begins exactly
where the previous one ended, if necessary inside a document, and is a whole number of batches. So the state is where
the current block began in each source, and how many of its batches have been yielded. Resuming reads that block again,
which is no more than the shuffle buffer.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from hnet_lm.data.block import Block, PackedBlock
from hnet_lm.data.config import DataConfig
from hnet_lm.data.error_report import ErrorReport
from hnet_lm.data.mixture import Mixture
from hnet_lm.data.packed import PackedArrays
from hnet_lm.data.source import Source
from hnet_lm.data.split import EVERYTHING, Split
from hnet_lm.errors import DataError

UNSHUFFLED_BLOCK_BYTES = 1 << 20  # without a shuffle, blocks only save work


class Stream:
    """Stream `index` of `config.streams`, each with its own share of the documents."""

    def __init__(self, config: DataConfig, index: int, vocab_size: int, split: Split = EVERYTHING) -> None:
        self._config = config
        self._index = index
        self._vocab_size = vocab_size
        self._errors = ErrorReport(config.on_error)
        self._mixture = Mixture(
            [
                Source(
                    source,
                    number,
                    vocab_size=vocab_size,
                    report=self._errors,
                    seed=config.seed,
                    shuffle_files=config.shuffle_bytes > 0,
                    stream=index,
                    num_streams=config.streams,
                    split=split,
                )
                for number, source in enumerate(config.sources)
            ],
            [(phase.from_positions / config.streams, phase.weights) for phase in config.curriculum],
        )
        self._block_number = 0
        self._next_batch = 0
        self._packed: PackedBlock | None = None
        self._block_start = self._place()

    def next(self, wanted: bool = True) -> PackedArrays | None:
        """The next batch; None, at little cost, if it is not `wanted`. Raises DataError."""
        if self._packed is None:
            self._packed = self._fill()
            if self._next_batch >= len(self._packed):
                raise DataError("the data cannot go on where it stopped: its files are no longer what they were")
        arrays = self._packed.arrays(self._next_batch) if wanted else None
        self._next_batch += 1
        if self._next_batch == len(self._packed):
            self._packed = None
            self._block_number += 1
            self._next_batch = 0
            self._block_start = self._place()
        return arrays

    def state_dict(self) -> dict[str, Any]:
        return {"block": self._block_number, "batch": self._next_batch, **self._block_start}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._block_number = state["block"]
        self._next_batch = state["batch"]
        self._mixture.load_state_dict(state["mixture"])
        self._errors.num_skipped = state["num_skipped"]
        self._packed = None
        self._block_start = self._place()

    def _place(self) -> dict[str, Any]:
        return {"mixture": self._mixture.state_dict(), "num_skipped": self._errors.num_skipped}

    def _fill(self) -> PackedBlock:
        config = self._config
        shuffle_bytes = config.shuffle_bytes or UNSHUFFLED_BLOCK_BYTES
        block = Block(max(shuffle_bytes // config.tokens_per_batch, 1) * config.tokens_per_batch)
        first_epoch: dict[int, int] = {}
        turned: set[int] = set()
        while not block.is_full:
            run = self._mixture.peek()
            source, epoch = run.origin[:2]
            if epoch > first_epoch.setdefault(source, epoch) and source not in turned:
                turned.add(source)
                if len(turned) >= sum(weight > 0 for weight in self._mixture.weights):
                    # Every source has been read in full: more would only repeat. Fill the last batch and stop.
                    block.capacity = -(-block.num_positions // config.tokens_per_batch) * config.tokens_per_batch
                    if block.is_full:
                        break
            self._mixture.take(block.add(run))
        shuffle = None
        if config.shuffle_bytes > 0:
            shuffle = np.random.default_rng((config.seed, self._index, self._block_number))
        return PackedBlock(
            block,
            tokens_per_batch=config.tokens_per_batch,
            max_length=config.max_length,
            vocab_size=self._vocab_size,
            shuffle=shuffle,
        )
