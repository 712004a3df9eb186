"""Statistics of the chunks of a text: their lengths, and their agreement with reference boundaries."""

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hnet_lm.inspect.structure import Chunks, StageChunks


@dataclass(frozen=True)
class StageSummary:
    """Chunk lengths of one stage, in bytes; `histogram[n]` counts the chunks of n bytes."""

    num_chunks: int
    bytes_per_chunk: float
    positions_per_chunk: float
    median_length: float
    max_length: int
    histogram: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Every field; a mean without values is None."""
        return {name: _or_none(value) for name, value in vars(self).items()}

    def capped_histogram(self, max_bars: int) -> list[int]:
        """The counts of 1, 2, ... bytes; the last bar counts all chunks of `max_bars` bytes and more."""
        counts = list(self.histogram[1:])
        return [*counts[: max_bars - 1], *([sum(counts[max_bars - 1 :])] if len(counts) >= max_bars else [])]

    def length_label(self, length: int, max_bars: int) -> str:
        """The label of the bar of this length: "24+" if it counts longer chunks too."""
        return f"{length}+" if length == max_bars and self.max_length > max_bars else str(length)


@dataclass(frozen=True)
class Agreement:
    """How well the chunk starts of a stage and a reference's boundaries agree, within `tolerance` bytes.

    The first byte of the text does not count. The values by chance are those of the same boundaries shifted along the
    text, all by the same distance and wrapping around its end, on average over all distances.
    """

    reference: str
    num_reference: int
    num_boundaries: int
    num_shared: int
    """Chunk starts at a boundary of the reference."""
    num_found: int
    """Boundaries of the reference at a chunk start; the same number if the tolerance is 0."""
    num_at_reference: int
    """Positions at which a chunk start would count as shared."""
    num_at_boundaries: int
    """Positions at which a boundary of the reference would count as found."""
    num_places: int
    tolerance: int = 0

    @property
    def precision(self) -> float:
        """Share of the chunk starts that are boundaries of the reference; NaN without any."""
        return _ratio(self.num_shared, self.num_boundaries)

    @property
    def recall(self) -> float:
        """Share of the reference's boundaries that start a chunk; NaN without any."""
        return _ratio(self.num_found, self.num_reference)

    @property
    def f1(self) -> float:
        if self.num_shared:
            return _harmonic(self.precision, self.recall)
        return _ratio(0, self.num_boundaries + self.num_reference)

    @property
    def chance_precision(self) -> float:
        return _ratio(self.num_at_reference, self.num_places)

    @property
    def chance_recall(self) -> float:
        return _ratio(self.num_at_boundaries, self.num_places)

    @property
    def chance_f1(self) -> float:
        return _harmonic(self.chance_precision, self.chance_recall)

    def __add__(self, other: "Agreement") -> "Agreement":
        """Both texts together."""
        counts = {name: value + vars(other)[name] for name, value in vars(self).items() if name.startswith("num_")}
        return replace(self, **counts)

    def to_json(self) -> dict[str, Any]:
        """Counts and shares; a share without values is None."""
        figures = ("precision", "recall", "f1", "chance_precision", "chance_recall", "chance_f1")
        counts = ("reference", "tolerance", "num_reference", "num_boundaries", "num_shared", "num_found")
        return {name: getattr(self, name) for name in counts} | {
            name: _or_none(getattr(self, name)) for name in figures
        }


def summarize(chunks: Chunks) -> list[StageSummary]:
    """The chunk lengths of every stage. For an empty text there are no chunks, and means are NaN."""
    return [_summarize(stage) for stage in chunks.stages]


def agreement(stage: StageChunks, reference: str, offsets: np.ndarray, tolerance: int = 0) -> Agreement:
    """Compare a stage's chunk starts with the byte offsets that a reference marks."""
    return agreement_of_starts(stage.starts, stage.num_bytes, reference, offsets, tolerance)


def agreement_of_starts(
    starts: np.ndarray, num_bytes: int, reference: str, offsets: np.ndarray, tolerance: int = 0
) -> Agreement:
    """The same from the chunk starts alone, sorted and beginning with byte 0, in a text of `num_bytes`."""
    marked = np.unique(offsets)
    marked = marked[(marked > 0) & (marked < num_bytes)]
    cuts = starts[1:]
    return Agreement(
        reference,
        len(marked),
        len(cuts),
        int(_is_near(cuts, marked, tolerance).sum()),
        int(_is_near(marked, cuts, tolerance).sum()),
        _num_near(marked, tolerance, num_bytes),
        _num_near(cuts, tolerance, num_bytes),
        max(num_bytes - 1, 0),
        tolerance,
    )


def _is_near(places: np.ndarray, marks: np.ndarray, tolerance: int) -> np.ndarray:
    return np.searchsorted(marks, places - tolerance) < np.searchsorted(marks, places + tolerance, side="right")


def _num_near(marks: np.ndarray, tolerance: int, num_bytes: int) -> int:
    """How many of the offsets 1 .. `num_bytes` - 1 are within the tolerance of one of the marks."""
    first, last = np.maximum(marks - tolerance, 1), np.minimum(marks + tolerance, num_bytes - 1)
    free_from = np.maximum(first, np.append(0, last[:-1] + 1)[: len(first)])
    return int(np.maximum(last - free_from + 1, 0).sum())


def _summarize(stage: StageChunks) -> StageSummary:
    lengths = stage.lengths
    return StageSummary(
        num_chunks=stage.num_chunks,
        bytes_per_chunk=_ratio(stage.num_bytes, stage.num_chunks),
        positions_per_chunk=_ratio(len(stage.offsets), stage.num_chunks),
        median_length=float(np.median(lengths)) if len(lengths) else float("nan"),
        max_length=int(lengths.max(initial=0)),
        histogram=tuple(np.bincount(lengths).tolist()),
    )


def _harmonic(a: float, b: float) -> float:
    return 2 * a * b / (a + b) if a + b > 0 else a + b  # NaN stays NaN


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
