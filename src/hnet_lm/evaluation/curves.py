"""Data efficiency: how many times less data one run needs to reach the quality of another.

Read from the `metrics.jsonl` of runs. The level is the final bits per byte of the worse of two runs, and the factor is
the ratio of the bytes that the two need to reach it. Before decay, as in the paper, the last record at the peak
learning rate counts as the end, and both numbers are read off the curves. After decay the last record is the end, and
the length that the better run would have needed is an estimate: a shorter run is assumed to decay over the same share
of its length, and to gain as many bits by it.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.inputs import read_text

METRICS = "metrics.jsonl"
VALIDATION = "validation/bits_per_byte"
PEAK_TOLERANCE = 1e-6


@dataclass(frozen=True, eq=False)
class Curve:
    """Bits per byte of a run over the bytes of training text seen, in chronological order."""

    name: str
    bytes_seen: np.ndarray
    bits_per_byte: np.ndarray
    bytes_before_decay: float
    """The bytes seen when the learning rate began to fall."""

    @property
    def num_before_decay(self) -> int:
        """The number of points before the decay."""
        return int(np.searchsorted(self.bytes_seen, self.bytes_before_decay, side="right"))

    @property
    def best(self) -> np.ndarray:
        """The lowest value up to each point, so that noise does not undo what has been reached."""
        return np.minimum.accumulate(self.bits_per_byte)

    def end(self, *, before_decay: bool) -> float:
        """The best value of the run, or of its part before decay."""
        return float(self.best[self.num_before_decay - 1] if before_decay else self.best[-1])

    def bytes_to_reach(self, level: float, *, before_decay: bool) -> float | None:
        """Bytes after which a run like this reaches the level; None if its points before decay do not show it.

        Between two points by the logarithm of the bytes. Not before decay: the whole length of a run with decay.
        """
        if before_decay:
            return self._stable_bytes(level)
        gain = self.end(before_decay=True) - self.end(before_decay=False)
        stable_bytes = self._stable_bytes(level + gain)
        return stable_bytes and stable_bytes * self.bytes_seen[-1] / self.bytes_seen[self.num_before_decay - 1]

    def _stable_bytes(self, level: float) -> float | None:
        best = self.best[: self.num_before_decay]
        if not len(best) or not best[-1] <= level <= best[0]:
            return None
        i = int((best <= level).argmax())
        if i == 0:  # reached with the first point
            return float(self.bytes_seen[0])
        share = (best[i - 1] - level) / (best[i - 1] - best[i])
        start, end = np.log(self.bytes_seen[i - 1 : i + 1])
        return float(np.exp(start + share * (end - start)))


@dataclass(frozen=True)
class Efficiency:
    """`run` needs `factor` times less data than `baseline` to reach `level` bits per byte (below 1: more data)."""

    run: str
    baseline: str
    level: float
    factor: float


def read_curve(path: str | Path, key: str = VALIDATION) -> Curve:
    """A run's curve, from its folder or its `metrics.jsonl`. Raises DataError if the file has no values of this key."""
    path = Path(path)
    name, file = (path.name, path / METRICS) if path.is_dir() else (path.parent.name, path)
    records = _records(file)
    training = [r for r in records if all(isinstance(r.get(name), int | float) for name in ("bytes_seen", "lr"))]
    measured = [r for r in records if isinstance(r.get(key), int | float)]
    if not measured or not training:
        what = f"values of {key!r}" if training else "records of training (with 'bytes_seen' and 'lr')"
        raise DataError(f"{file}: has no {what}")
    steps = np.array([r["step"] for r in training])
    rates = np.array([r["lr"] for r in training])
    bytes_at_steps = np.array([r["bytes_seen"] for r in training], dtype=np.float64)
    last_at_peak = np.flatnonzero(rates >= rates.max() * (1 - PEAK_TOLERANCE))[-1]
    # Validations have records of their own, perhaps at steps without a training record.
    bytes_seen = np.interp([r["step"] for r in measured], steps, bytes_at_steps)
    values = np.array([r[key] for r in measured], dtype=np.float64)
    return Curve(name, bytes_seen, values, float(bytes_at_steps[last_at_peak]))


def data_efficiency(run: Curve, baseline: Curve, *, before_decay: bool) -> Efficiency | None:
    """How much less data `run` needs; None if the curves do not show when the better run reached the level."""
    if not run.num_before_decay or not baseline.num_before_decay:
        return None
    level = max(run.end(before_decay=before_decay), baseline.end(before_decay=before_decay))
    needed = run.bytes_to_reach(level, before_decay=before_decay)
    needed_by_baseline = baseline.bytes_to_reach(level, before_decay=before_decay)
    if needed is None or needed_by_baseline is None:
        return None
    return Efficiency(run.name, baseline.name, level, needed_by_baseline / needed)


def _records(path: Path) -> list[dict]:
    lines = read_text(path).rstrip("\n").split("\n")
    records = []
    for number, line in enumerate(lines, start=1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if number == len(lines):  # the run was stopped while it wrote
                break
            raise DataError(f"{path}, line {number}: not JSON") from error
        if not isinstance(record, dict) or not isinstance(record.get("step"), int):
            raise DataError(f"{path}, line {number}: not a record of a run, which has a step")
        records.append(record)
    return records
