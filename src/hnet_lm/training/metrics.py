"""`metrics.jsonl`: one JSON object per line, the truth about a run; trackers get the same records.

After a resume the file holds each step once: records after the checkpoint's step are dropped before new ones come.
docs/metrics.md is the table of keys and units.
"""

import contextlib
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Protocol, Self

from hnet_lm.extras import import_leaf
from hnet_lm.inputs import read_bytes
from hnet_lm.training.errors import CannotWrite, TrainingError
from hnet_lm.training.run_folder import replace_file

EXTRA_OF = {"tensorboard": "track", "wandb": "wandb", "trackio": "trackio"}

Record = dict[str, Any]


class Tracker(Protocol):
    """Somewhere else that records go."""

    def log(self, record: Record) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Tracked:
    """What a tracker is told about the run."""

    project: str
    directory: Path
    run_id: str
    """The same after every resume."""
    config: Record
    next_step: int
    """The first step that it will be given; it may have had later ones, from a process that was killed."""


class MetricsLog:
    """The file, and the trackers named. Closed at the end of a `with` block."""

    def __init__(
        self,
        path: Path,
        trackers: Iterable[Tracker] = (),
        *,
        keep_until: int = -1,
        say: Callable[[str], None] = lambda message: None,
    ):
        """Continue a log of which the records up to step `keep_until` count. Raises CannotWrite."""
        kept = [line for line, record in _lines(path) if record.get("step", -1) <= keep_until]
        replace_file(path, "".join(line + "\n" for line in kept).encode())
        self._path = path
        self._file = _open(path)
        self._unwritten = b""
        self._trackers = list(trackers)
        self._say = say

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        """A failure to close does not hide the error that ended the block."""
        with contextlib.suppress(*([] if kind is None else [CannotWrite])):
            self.close()

    def log(self, record: Record) -> None:
        """Write a record. What is not finite becomes null: JSON has no NaN. Raises CannotWrite."""
        record = {key: value if _is_json(value) else None for key, value in record.items()}
        self._unwritten += (json.dumps(record, allow_nan=False) + "\n").encode()
        self._write()
        self._tell(lambda tracker: tracker.log(record))

    def flush(self) -> None:
        """Wait until all records are on the disk; one that could not be written is tried again. Raises CannotWrite."""
        self._write()
        try:
            os.fsync(self._file.fileno())
        except OSError as error:
            raise CannotWrite.file(self._path, error) from error

    def _write(self) -> None:
        try:
            while self._unwritten:  # a write may take only a part
                self._unwritten = self._unwritten[self._file.write(self._unwritten) :]
        except OSError as error:
            raise CannotWrite.file(self._path, error) from error

    def close(self) -> None:
        try:
            self.flush()
        finally:
            self._file.close()
            self._tell(lambda tracker: tracker.close())

    def _tell(self, message: Callable[[Tracker], None]) -> None:
        """Trackers are additional: one that fails, for whatever reason, is left out from then on and ends no run."""
        for tracker in list(self._trackers):
            try:
                message(tracker)
            except Exception as error:  # a service's library may raise anything, and must not end a training
                self._trackers.remove(tracker)
                first_line = (str(error) or type(error).__name__).partition("\n")[0]
                self._say(f"{type(tracker).__module__} fails and gets no more records: {first_line}")


def read_metrics(path: Path) -> list[Record]:
    """All records of a run's `metrics.jsonl`, in order."""
    return [record for _, record in _lines(path) if "step" in record]


class MetricsReader:
    """Reads a `metrics.jsonl` that is being written, anew when it has changed."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: tuple[int, int, int] | None = None
        self._records: list[Record] = []

    def read(self) -> list[Record]:
        """All records so far."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return self._records
        seen = (found.st_ino, found.st_size, found.st_mtime_ns)
        if seen != self._seen:
            self._records, self._seen = read_metrics(self._path), seen
        return self._records


def tracker_module(name: str) -> ModuleType:
    """The module of that tracker; its package is imported only now. UserError if it is not installed."""
    return import_leaf(f"hnet_lm.training.trackers.{name}", EXTRA_OF[name], f"logging.trackers {name!r}")


def open_tracker(name: str, run: Tracked) -> Tracker:
    """Raises TrainingError in one line, whatever the service raises: no login, no network, a folder it cannot write."""
    module = tracker_module(name)
    try:
        return module.open_tracker(run)
    except Exception as error:  # a service's library may raise anything
        first_line = (str(error) or type(error).__name__).partition("\n")[0]
        raise TrainingError(f"logging.trackers {name!r}: cannot be opened: {first_line}") from error


def _open(path: Path) -> Any:
    """Unbuffered: a record is with the system at once, or its failure is known."""
    try:
        return path.open("ab", buffering=0)
    except OSError as error:
        raise CannotWrite.file(path, error) from error


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _lines(path: Path) -> Iterable[tuple[str, Record]]:
    """The lines that are JSON objects, and these objects. A stop in the middle of a write leaves half a line."""
    if not path.exists():
        return
    for line in read_bytes(path, error=TrainingError).decode("utf-8", "replace").split("\n"):
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield line, record
