"""Windows along DNA: where a model finds the sequence likely, beyond what its bases alone make likely.

    log-likelihood ratio = log p(window) - sum over its bases of log(frequency of the base in all regions)

A repeat or a conserved stretch stands out above 0; each window is read from a fresh state.
"""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from hnet_lm.errors import ConfigError
from hnet_lm.evaluation.dna.reference import Reference
from hnet_lm.evaluation.scorer import Passage, Scorer


@dataclass(frozen=True)
class WindowScore:
    """Positions `start .. end - 1` (counted from 0, as in BED) of a sequence; log-probabilities in nats."""

    sequence: str
    start: int
    end: int
    logprob: float
    background_logprob: float

    @property
    def log_ratio(self) -> float:
        return self.logprob - self.background_logprob

    @property
    def log_ratio_per_base(self) -> float:
        return self.log_ratio / (self.end - self.start)


def score_windows(scorer: Scorer, reference: Reference, *, window: int, stride: int) -> Iterator[WindowScore]:
    """The windows of all regions, in order; the last of a region may be shorter."""
    if window < 1 or stride < 1:
        raise ConfigError(f"window and stride must be 1 or more, got {window} and {stride}")
    counts = Counter[int]()
    for region in reference:
        counts.update(region.bases)
    log_frequency = {base: math.log(count / counts.total()) for base, count in counts.items()}
    places = [
        (region, start, min(start + window, len(region.bases)))
        for region in reference
        for start in range(0, max(len(region.bases) - window + stride, 1), stride)
        if start < len(region.bases)
    ]
    scores = scorer.score(Passage(region.bases[start:end]) for region, start, end in places)
    backgrounds = (
        sum(n * log_frequency[base] for base, n in Counter(region.bases[start:end]).items())
        for region, start, end in places
    )
    return (
        WindowScore(region.sequence, region.start + start, region.start + end, score.logprob, background)
        for (region, start, end), score, background in zip(places, scores, backgrounds, strict=True)
    )
