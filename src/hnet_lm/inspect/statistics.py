"""Figures about the chunks of a text: how long they are, and where their boundaries agree with others."""

import math
from dataclasses import dataclass
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
        """Every field; None for a mean of nothing."""
        return {name: _or_none(value) for name, value in vars(self).items()}

    def capped_histogram(self, max_bars: int) -> list[int]:
        """The counts of 1, 2, ... bytes; the last bar counts all chunks of `max_bars` bytes and more."""
        counts = list(self.histogram[1:])
        return [*counts[: max_bars - 1], *([sum(counts[max_bars - 1 :])] if len(counts) >= max_bars else [])]

    def length_label(self, length: int, max_bars: int) -> str:
        """What stands below the bar of this length: "24+" where it counts longer chunks too."""
        return f"{length}+" if length == max_bars and self.max_length > max_bars else str(length)


@dataclass(frozen=True)
class Agreement:
    """How the chunk starts of a stage and a reference's boundaries coincide; the text's first byte is not counted."""

    reference: str
    num_reference: int
    num_boundaries: int
    num_shared: int
    num_places: int

    @property
    def precision(self) -> float:
        """Share of the chunk starts that are the reference's too; NaN without any."""
        return _ratio(self.num_shared, self.num_boundaries)

    @property
    def recall(self) -> float:
        """Share of the reference's boundaries that start a chunk; NaN without any."""
        return _ratio(self.num_shared, self.num_reference)

    @property
    def f1(self) -> float:
        return _ratio(2 * self.num_shared, self.num_boundaries + self.num_reference)

    @property
    def chance_precision(self) -> float:
        """The precision of boundaries put anywhere: the share of all bytes that the reference marks."""
        return _ratio(self.num_reference, self.num_places)

    def to_json(self) -> dict[str, Any]:
        """Counts and figures; None for a share of nothing."""
        return {
            "reference": self.reference,
            "num_reference": self.num_reference,
            "num_boundaries": self.num_boundaries,
            "num_shared": self.num_shared,
            "precision": _or_none(self.precision),
            "recall": _or_none(self.recall),
            "f1": _or_none(self.f1),
            "chance_precision": _or_none(self.chance_precision),
        }


def summarize(chunks: Chunks) -> list[StageSummary]:
    """The lengths of every stage's chunks. A stage of an empty text has no chunk, and NaN for its means."""
    return [_summarize(stage) for stage in chunks.stages]


def agreement(stage: StageChunks, reference: str, offsets: np.ndarray) -> Agreement:
    """Compare a stage's chunk starts with the byte offsets that a reference marks."""
    marked = np.unique(offsets)
    marked = marked[(marked > 0) & (marked < stage.num_bytes)]
    starts = stage.starts[1:]
    shared = np.intersect1d(marked, starts, assume_unique=True)
    return Agreement(reference, len(marked), len(starts), len(shared), max(stage.num_bytes - 1, 0))


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


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else float("nan")


def _or_none(value: Any) -> Any:
    return None if isinstance(value, float) and math.isnan(value) else value
