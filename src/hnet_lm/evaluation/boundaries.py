"""Statistics of the cuts of a model that is being measured: chunk lengths, and chunks that start at words.

Pass `BoundaryStatistics().add` to `bits_per_byte` as `on_document`, with a scorer that reports unit starts. A model of
tokens reports them as well, so tokens are counted like chunks. Words are delimited by white space.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hnet_lm.evaluation.scorer import PassageScore

WHITE_SPACE = b" \t\n\r\x0b\x0c"


@dataclass
class StageBoundaries:
    """The chunks of one stage in the documents added so far; lengths are in bytes.

    The first byte of a document always starts a chunk and a word, so the shares leave it out.
    """

    num_bytes: int = 0
    histogram: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """`histogram[n]` counts the chunks of n bytes."""
    num_cuts: int = 0
    num_at_space: int = 0
    num_at_word: int = 0

    def add(self, data: bytes, starts: np.ndarray) -> None:
        counts = np.bincount(np.diff(starts, append=len(data)))
        longer = np.zeros(max(len(counts), len(self.histogram)), dtype=np.int64)
        longer[: len(self.histogram)] += self.histogram
        longer[: len(counts)] += counts
        self.histogram = longer
        is_space = np.isin(np.frombuffer(data, dtype=np.uint8), np.frombuffer(WHITE_SPACE, dtype=np.uint8))
        cuts = starts[starts > 0]
        follows_space = is_space[cuts - 1]
        self.num_bytes += len(data)
        self.num_cuts += len(cuts)
        self.num_at_space += int((is_space[cuts] & ~follows_space).sum())
        self.num_at_word += int((~is_space[cuts] & follows_space).sum())

    @property
    def num_chunks(self) -> int:
        return int(self.histogram.sum())

    @property
    def bytes_per_chunk(self) -> float:
        return _ratio(self.num_bytes, self.num_chunks)

    @property
    def length_sd(self) -> float:
        """Standard deviation of the chunk lengths."""
        lengths = np.arange(len(self.histogram), dtype=np.float64)
        squares = _ratio(float(self.histogram @ lengths**2), self.num_chunks)
        return math.sqrt(max(squares - self.bytes_per_chunk**2, 0.0))

    @property
    def space_share(self) -> float:
        """Share of the chunk starts at the first white space after a word, as in the chunk ` word`."""
        return _ratio(self.num_at_space, self.num_cuts)

    @property
    def word_share(self) -> float:
        """Share of the chunk starts at the first byte of a word."""
        return _ratio(self.num_at_word, self.num_cuts)

    def to_json(self) -> dict[str, Any]:
        return {
            "num_chunks": self.num_chunks,
            "bytes_per_chunk": self.bytes_per_chunk,
            "chunk_length_sd": self.length_sd,
            "starts_at_space": self.space_share if self.num_cuts else None,
            "starts_at_word": self.word_share if self.num_cuts else None,
            "histogram": self.histogram.tolist(),
        }


@dataclass
class BoundaryStatistics:
    """The stages of every domain, outermost first."""

    domains: dict[str, list[StageBoundaries]] = field(default_factory=dict)

    def add(self, domain: str, data: bytes, score: PassageScore) -> None:
        """Count a document. Raises ValueError if its score was made without unit starts."""
        if score.unit_starts is None:
            raise ValueError("the scorer does not report unit starts; make it with unit_starts=True")
        stages = self.domains.setdefault(domain, [StageBoundaries() for _ in score.unit_starts])
        for stage, starts in zip(stages, score.unit_starts, strict=True):
            stage.add(data, starts)

    def to_json(self) -> dict[str, Any]:
        return {domain: [stage.to_json() for stage in stages] for domain, stages in self.domains.items()}


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")
