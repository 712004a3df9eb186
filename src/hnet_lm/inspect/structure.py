"""Where the chunker cut a text: for each stage the probability at every position, and the chunks.

A position of stage 0 is a byte; a position of stage s + 1 is a chunk of stage s, represented by its first byte. BOS,
which the model reads before the text, is left out: the first chunk of a stage starts at byte 0, even if the model puts
BOS and the first bytes into one chunk.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np


@dataclass(frozen=True, eq=False)
class StageChunks:
    """One stage, which has n positions."""

    offsets: np.ndarray
    """(n,) the byte that represents each position."""
    boundary_prob: np.ndarray
    """(n,) the probability that a chunk starts there."""
    is_boundary: np.ndarray
    """(n,) whether one does."""
    num_bytes: int
    """Of the text."""

    @cached_property
    def starts(self) -> np.ndarray:
        """The first byte of each chunk. Byte 0 is always included, whatever `is_boundary` is there."""
        begins = self.is_boundary.copy()
        begins[:1] = True
        return self.offsets[begins]

    @cached_property
    def lengths(self) -> np.ndarray:
        """The length of each chunk, in bytes."""
        return np.diff(self.starts, append=self.num_bytes)

    @property
    def num_chunks(self) -> int:
        return len(self.starts)

    def prob_at_bytes(self) -> np.ndarray:
        """The probability at each of the `num_bytes` bytes; NaN where this stage has no position."""
        probs = np.full(self.num_bytes, np.nan, dtype=np.float32)
        probs[self.offsets] = self.boundary_prob
        return probs


@dataclass(frozen=True, eq=False)
class Chunks:
    """A text and its chunks in every stage, outermost first; an isotropic model has no stage."""

    data: bytes
    """The text."""
    stages: tuple[StageChunks, ...]
    """One per stage that chunks."""

    @classmethod
    def from_positions(cls, data: bytes, routings: list[tuple[np.ndarray, np.ndarray]]) -> "Chunks":
        """From `boundary_prob` and `is_boundary` of each stage's positions, BOS left out."""
        offsets = np.arange(len(data))
        stages = []
        for boundary_prob, is_boundary in routings:
            stages.append(StageChunks(offsets, boundary_prob, is_boundary, len(data)))
            offsets = stages[-1].starts
        return cls(data, tuple(stages))

    def segments(self, stage: int) -> Iterator[bytes]:
        """The chunks of a stage as bytes, in order; joined they are the text."""
        found = self.stages[stage]
        for start, length in zip(found.starts.tolist(), found.lengths.tolist(), strict=True):
            yield self.data[start : start + length]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers: per stage the position offsets with their probabilities, and the chunk starts."""
        return {
            "num_bytes": len(self.data),
            "stages": [
                {
                    "offsets": stage.offsets.tolist(),
                    "boundary_prob": [round(p, 6) for p in stage.boundary_prob.tolist()],
                    "starts": stage.starts.tolist(),
                }
                for stage in self.stages
            ],
        }
