"""Boundary enrichment: whether a model cuts where the text is hard to predict.

    B = mean of -log p(x_{t+1} | x_1 .. x_t) over the chunk starts t / mean of -log p over all bytes

(SOMBRERO, arXiv 2601.22805.) The byte after a chunk start is the first one that the new chunk helps to predict. The
null is B of the same cuts shifted along the text, all by the same distance and wrapping around its end, which removes
the effect of chunk lengths and of the text itself. The first byte of a document always starts a chunk and is left out.
The same is computed for the first byte of each chunk itself, x_t.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hnet_lm.evaluation.scorer import PassageScore

NUM_SHIFTS = 200


@dataclass(frozen=True)
class Enrichment:
    """B of a stage; without a chunk start, NaN."""

    value: float
    first_byte: float
    null_mean: float
    null_low: float
    null_high: float
    """The null's mean, and the interval that holds 95 % of it."""
    num_cuts: int

    def to_json(self) -> dict[str, Any]:
        return {name: None if value != value else value for name, value in vars(self).items()}


@dataclass
class _Document:
    surprisal: np.ndarray
    starts: tuple[np.ndarray, ...]


@dataclass
class EnrichmentCollector:
    """Collects documents; scores must have unit starts and the log-probabilities of bytes. 8 bytes per byte of text."""

    documents: list[_Document] = field(default_factory=list)

    def add(self, score: PassageScore) -> None:
        """Raises ValueError for a score without them."""
        if score.unit_starts is None or score.byte_logprobs is None:
            raise ValueError("the scorer must report both: unit_starts=True, byte_logprobs=True")
        self.documents.append(_Document(-score.byte_logprobs, score.unit_starts))

    def enrichments(self, *, num_shifts: int = NUM_SHIFTS, seed: int = 0) -> list[Enrichment]:
        """The enrichment of every stage, outermost first."""
        num_stages = len(self.documents[0].starts) if self.documents else 0
        return [self._of_stage(stage, num_shifts, seed) for stage in range(num_stages)]

    def _of_stage(self, stage: int, num_shifts: int, seed: int) -> Enrichment:
        following, own, is_cut = [], [], []
        for document in self.documents:
            surprisal = document.surprisal
            marks = np.zeros(len(surprisal), dtype=bool)
            marks[document.starts[stage]] = True
            following.append(surprisal[2:])  # of the bytes after positions 1 .. n - 2
            own.append(surprisal[1:-1])
            is_cut.append(marks[1:-1])
        mean = float(np.mean(np.concatenate([document.surprisal for document in self.documents])))
        next_byte, first_byte = np.concatenate(following), np.concatenate(own)
        cuts = np.flatnonzero(np.concatenate(is_cut))
        if not len(cuts) or not mean:
            return Enrichment(*[math.nan] * 5, num_cuts=0)
        shifts = np.random.default_rng(seed).integers(1, max(len(next_byte), 2), size=num_shifts)
        null = [float(next_byte[(cuts + shift) % len(next_byte)].mean()) / mean for shift in shifts.tolist()]
        low, high = np.quantile(null, [0.025, 0.975])
        value, of_first = (float(values[cuts].mean()) / mean for values in (next_byte, first_byte))
        return Enrichment(value, of_first, float(np.mean(null)), float(low), float(high), len(cuts))
