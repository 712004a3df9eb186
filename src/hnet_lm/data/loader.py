"""`DataLoader`: the batches of one rank, for ever, and exactly resumable.

The order of the data is one sequence of batches, fixed by the `DataConfig` alone. A step takes the next R
batches for its R ranks. `state_dict` describes the sequence after the last step that was *consumed*, never what was
read ahead; it is the same on every rank, and any number of ranks and workers goes on from it.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hnet_lm.data.batch import Batch
from hnet_lm.data.config import DataConfig
from hnet_lm.data.files import fingerprints, require_same_files
from hnet_lm.data.split import Split
from hnet_lm.data.workers import InProcess, ReadPlan, StreamReader, Workers
from hnet_lm.errors import ConfigError, DataError

NOT_OF_THE_ORDER = ("num_workers", "on_error")
HOLD_OUT = "hold_out"
STATE_VERSION = 2


class DataLoader:
    """An endless iterator of `Batch`. Close it, or use it in a `with` statement, to end its workers."""

    def __init__(
        self, config: DataConfig, *, vocab_size: int = 256, rank: int = 0, num_ranks: int = 1, hold_out: float = 0.0
    ) -> None:
        """`hold_out` is the fraction of the documents, by a hash of each, that is left out."""
        if vocab_size < 256:
            raise ConfigError(f"vocab_size {vocab_size} is below 256, the number of bytes")
        if not 0 <= rank < num_ranks:
            raise ConfigError(f"rank {rank} is not among {num_ranks} ranks")
        self.config = config
        self.vocab_size = vocab_size
        self.rank = rank
        self.num_ranks = num_ranks
        self._split = Split(hold_out)
        self._next_batch = 0  # of the sequence that all ranks share
        self._states: list[dict[str, Any] | None] = [None] * config.streams
        self._reader: StreamReader | None = None
        self._files: list[list[str]] | None = None  # fingerprints, of each source

    def __iter__(self) -> "DataLoader":
        return self

    def __next__(self) -> Batch:
        """The next batch of this rank. Raises DataError."""
        if self._reader is None:
            self._reader = self._open()
        arrays = None
        for batch in range(self._next_batch, self._next_batch + self.num_ranks):
            item = self._reader.receive(batch)
            self._states[batch % self.config.streams] = item.state
            arrays = item.arrays if item.arrays is not None else arrays
        self._next_batch += self.num_ranks
        assert arrays is not None  # one batch in `num_ranks` is this rank's
        return Batch.from_arrays(arrays)

    @property
    def num_skipped(self) -> int:
        """Damaged files and records passed over up to the current blocks, with `on_error = "skip"`."""
        return sum(state["num_skipped"] for state in self._states if state is not None)

    def state_dict(self) -> dict[str, Any]:
        """Small and JSON-able; the same on all ranks after the same number of steps."""
        return {
            "version": STATE_VERSION,
            "order": self._order(),
            "files": self._known_files(),
            "next_batch": self._next_batch,
            "streams": list(self._states),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on after the saved loader's last step.

        Raises DataError if the configuration is of another order, or a file is not what it was.
        """
        if state.get("version") != STATE_VERSION:
            raise DataError("the data cannot go on where it stopped: the run was saved by another version of hnet-lm")
        order = self._order()
        changed = [key for key in {**order, **state["order"]} if state["order"].get(key) != order.get(key)]
        if changed:
            names = ", ".join("validation.hold_out" if key == HOLD_OUT else f"data.{key}" for key in changed)
            raise DataError(f"the data cannot go on where it stopped: {names} changed since the run was saved")
        self._files = None
        for source, saved, now in zip(self.config.sources, state["files"], self._known_files(), strict=True):
            require_same_files(source, saved, now)
        self.close()
        self._next_batch = state["next_batch"]
        self._states = list(state["streams"])

    def close(self) -> None:
        """Ends the workers. The loader can still be used: the next batch starts new ones."""
        if self._reader is not None:
            self._reader.close()
            self._reader = None

    def __enter__(self) -> "DataLoader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _order(self) -> dict[str, Any]:
        order = dataclasses.asdict(self.config)
        order["sources"] = [
            {key: value for key, value in source.items() if value or key != "prompt_field"}
            for source in order["sources"]
        ]
        held_out = {HOLD_OUT: self._split.fraction} if self._split.fraction else {}
        return {key: value for key, value in order.items() if key not in NOT_OF_THE_ORDER} | {
            "vocab_size": self.vocab_size,
            **held_out,
        }

    def _known_files(self) -> list[list[str]]:
        if self._files is None:
            self._files = [fingerprints(source) for source in self.config.sources]
        return self._files

    def _open(self) -> StreamReader:
        self._known_files()  # as they are before anything is read from them
        states = tuple(self._states)
        plan = ReadPlan(self.config, self.vocab_size, self.rank, self.num_ranks, self._next_batch, states, self._split)
        num_workers = min(self.config.num_workers, self.config.streams)
        return Workers(plan, num_workers) if num_workers else InProcess(plan)
