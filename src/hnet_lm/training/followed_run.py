"""A run as a page shows it, while it trains and after: how far it is, and its curves, thinned to what can be drawn."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hnet_lm.training.metrics import MetricsReader, Record
from hnet_lm.training.run_folder import METRICS, has_ended

MOST_POINTS = 300
HELD_OUT = "validation/bits_per_byte"


class FollowedRun:
    """Reads a run's folder anew whenever it is asked."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._reader = MetricsReader(folder / METRICS)

    @classmethod
    def of(cls, folder: Path) -> "FollowedRun | None":
        """None where no run has written into the folder."""
        return cls(folder) if (folder / METRICS).is_file() else None

    def summary(self) -> dict[str, Any]:
        """`step`, `bytes_seen`, `has_ended`, the last `bits_per_byte` of held-out text (None before the first
        validation) and `curves`, each with a `name` and `points` [step, value]."""
        ended = has_ended(self._folder)  # asked first: then what the run wrote last is read now
        records = self._reader.read()
        updates = [record for record in records if record.get("loss") is not None]
        held_out = _points(records, HELD_OUT)
        return {
            "step": max((record["step"] for record in records), default=0),
            "bytes_seen": max((record.get("bytes_seen", 0) for record in records), default=0),
            "has_ended": ended,
            "bits_per_byte": held_out[-1][1] if held_out else None,
            "curves": [{"name": name, "points": _thinned(_points(records, key))} for name, key in _curves(updates)],
        }


def _curves(updates: Sequence[Record]) -> list[tuple[str, str]]:
    """Names and keys."""
    stages = [key for key in (updates[-1] if updates else {}) if key.endswith("/bytes_per_chunk")]
    lengths = [(f"Bytes per chunk, {key.partition('/')[0].replace('stage', 'stage ')}", key) for key in stages]
    return [("Bits per byte, training", "bits_per_byte"), ("Bits per byte, held-out text", HELD_OUT), *lengths]


def _points(records: Sequence[Record], key: str) -> list[tuple[int, float]]:
    return [(record["step"], float(record[key])) for record in records if isinstance(record.get(key), int | float)]


def _thinned(points: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """Means of neighbours, each at the last of their steps."""
    size = -(-len(points) // MOST_POINTS) or 1
    groups = [points[i : i + size] for i in range(0, len(points), size)]
    return [(group[-1][0], sum(value for _, value in group) / len(group)) for group in groups]
