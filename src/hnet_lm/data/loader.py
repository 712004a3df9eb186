"""`DataLoader`: an endless sequence of batches for one rank, exactly resumable.

The order of the data is one sequence of batches, fixed by the `DataConfig` alone. A step takes the next R
batches for its R ranks. `state_dict` describes the position after the last step that was *consumed*, not what was read
ahead. A rank reads only the streams that its batches come from, and knows only their states: `whole_state` combines the
states of all ranks after the same step, and any number of ranks and workers can resume from it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from hnet_lm.data.batch import Batch
from hnet_lm.data.config import DataConfig
from hnet_lm.data.files import fingerprints, is_hub, require_same_files
from hnet_lm.data.split import Split
from hnet_lm.data.workers import InProcess, ReadPlan, StreamReader, Workers
from hnet_lm.errors import ConfigError, DataError

NOT_OF_THE_ORDER = ("num_workers", "on_error")
HOLD_OUT = "hold_out"
STATE_VERSION = 3
OF_WHOLE_DATASETS = 2
"""In states of this version a dataset of the hub is one file, not one per shard."""
SHARE = "rank"
"""In the state of a rank that does not know all streams: its rank, and the number of ranks."""


class DataLoader:
    """An endless iterator of `Batch`. Close it, or use it in a `with` statement, to end its workers."""

    def __init__(
        self, config: DataConfig, *, vocab_size: int = 256, rank: int = 0, num_ranks: int = 1, hold_out: float = 0.0
    ) -> None:
        """`hold_out` is the fraction of the documents that is left out, chosen by a hash of each document."""
        if vocab_size < 256:
            raise ConfigError(f"vocab_size {vocab_size} is below 256, the number of bytes")
        if not 0 <= rank < num_ranks:
            raise ConfigError(f"rank {rank} is not among {num_ranks} ranks")
        self.config = config
        self.vocab_size = vocab_size
        self.rank = rank
        self.num_ranks = num_ranks
        self._split = Split(hold_out)
        self._next_batch = 0  # in the sequence that all ranks share
        self._states: list[dict[str, Any] | None] = [None] * config.streams
        self._knows_all = True  # including streams that other ranks read
        self._reader: StreamReader | None = None
        self._files: list[list[str]] | None = None  # fingerprints, of each source

    def __iter__(self) -> "DataLoader":
        return self

    def __next__(self) -> Batch:
        """The next batch of this rank. Raises DataError."""
        if self._reader is None:
            self._reader = self._open()
        arrays = None
        plan = self._plan()
        for batch in filter(plan.is_read, range(self._next_batch, self._next_batch + self.num_ranks)):
            item = self._reader.receive(batch)
            self._states[batch % self.config.streams] = item.state
            arrays = item.arrays if item.arrays is not None else arrays
        self._next_batch += self.num_ranks
        assert arrays is not None  # one batch in `num_ranks` is this rank's
        return Batch.from_arrays(arrays)

    @property
    def num_skipped(self) -> int:
        """Damaged files and records skipped up to the current blocks, with `on_error = "skip"`."""
        return sum(state["num_skipped"] for state in self._states if state is not None)

    def state_dict(self) -> dict[str, Any]:
        """Small and JSON-serializable. For a rank that does not read all streams, a part: see `whole_state`."""
        plan = self._plan()
        return {
            "version": STATE_VERSION,
            "order": self._order(),
            "files": self._known_files(),
            "next_batch": self._next_batch,
            "streams": list(self._states),
            **({} if self._knows_all or plan.stride == 1 else {SHARE: [self.rank, self.num_ranks]}),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resumes after the last step of the saved loader.

        Raises DataError if the configuration has another order of data, or a file has changed.
        """
        is_older = state.get("version") == OF_WHOLE_DATASETS and not any(map(is_hub, self.config.sources))
        if state.get("version") != STATE_VERSION and not is_older:
            raise DataError("the data cannot go on where it stopped: the run was saved by another version of hnet-lm")
        if SHARE in state:
            raise DataError(
                f"the data cannot go on where it stopped: this is the state of rank {state[SHARE][0]} of "
                f"{state[SHARE][1]}; put those of all together with hnet_lm.data.whole_state"
            )
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
        self._knows_all = True

    def close(self) -> None:
        """Stops the workers. The loader can still be used: the next batch starts new ones."""
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
        order["curriculum"] = [[phase.from_positions, list(phase.weights)] for phase in self.config.curriculum]
        if not self.config.curriculum:  # as in states of earlier versions
            del order["curriculum"]
        held_out = {HOLD_OUT: self._split.fraction} if self._split.fraction else {}
        return {key: value for key, value in order.items() if key not in NOT_OF_THE_ORDER} | {
            "vocab_size": self.vocab_size,
            **held_out,
        }

    def _known_files(self) -> list[list[str]]:
        if self._files is None:
            self._files = [fingerprints(source) for source in self.config.sources]
        return self._files

    def _plan(self) -> ReadPlan:
        states = tuple(self._states)
        return ReadPlan(self.config, self.vocab_size, self.rank, self.num_ranks, self._next_batch, states, self._split)

    def _open(self) -> StreamReader:
        self._known_files()  # before anything is read from them
        plan = self._plan()
        self._states = [state if index in plan.own_streams else None for index, state in enumerate(self._states)]
        self._knows_all = False
        num_workers = min(self.config.num_workers, len(plan.own_streams))
        return Workers(plan, num_workers) if num_workers else InProcess(plan)


def whole_state(of_ranks: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The state of the loaders of all ranks, from the state of each after the same step. Raises ValueError."""
    first = {key: value for key, value in of_ranks[0].items() if key != SHARE}
    if any(state["next_batch"] != first["next_batch"] for state in of_ranks):
        raise ValueError("the states are of different steps")
    known = [
        [state for state in states if state is not None]
        for states in zip(*(s["streams"] for s in of_ranks), strict=True)
    ]
    return {**first, "streams": [states[0] if states else None for states in known]}
