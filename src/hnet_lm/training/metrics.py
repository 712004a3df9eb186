"""`metrics.jsonl`: one JSON object a line, the truth about a run; trackers get the same records.

After a resume the file holds each step once: records after the checkpoint's step are dropped before new ones come.
docs/metrics.md is the table of keys and units.
"""

import json
import math
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Protocol

from hnet_lm.extras import import_leaf

EXTRA_OF = {"tensorboard": "track", "wandb": "wandb", "trackio": "trackio"}

Record = dict[str, Any]


class Tracker(Protocol):
    """Somewhere else that records go."""

    def log(self, record: Record) -> None: ...

    def close(self) -> None: ...


class MetricsLog:
    """The file, and the trackers named."""

    def __init__(self, path: Path, trackers: Iterable[Tracker] = (), *, keep_until: int = -1):
        """Continue a log of which the records up to step `keep_until` count."""
        kept = [line for line in _lines(path) if line["step"] <= keep_until]
        partial = path.with_name(f".{path.name}.partial")
        partial.write_text("".join(json.dumps(record) + "\n" for record in kept))
        partial.replace(path)
        self._file = path.open("a")
        self._trackers = list(trackers)

    def log(self, record: Record) -> None:
        """Write a record. What is not finite becomes null: JSON knows no NaN."""
        record = {key: value if _is_json(value) else None for key, value in record.items()}
        self._file.write(json.dumps(record, allow_nan=False) + "\n")
        self._file.flush()
        for tracker in self._trackers:
            tracker.log(record)

    def close(self) -> None:
        os.fsync(self._file.fileno())
        self._file.close()
        for tracker in self._trackers:
            tracker.close()


def read_metrics(path: Path) -> list[Record]:
    """All records of a run's `metrics.jsonl`, in order."""
    return list(_lines(path))


def open_tracker(name: str, project: str, run_directory: Path, config: Record) -> Tracker:
    """The tracker of that name; its package is imported only now. UserError if it is not installed."""
    leaf = import_leaf(f"hnet_lm.training.trackers.{name}", EXTRA_OF[name], f"logging.trackers {name!r}")
    return leaf.open_tracker(project, run_directory, config)


def _is_json(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


def _lines(path: Path) -> Iterable[Record]:
    if not path.exists():
        return
    for line in path.read_text().splitlines():
        try:
            yield json.loads(line)
        except ValueError:
            return  # a kill in the middle of a write leaves half a last line
