"""Windows along DNA: where a model finds the sequence likelier than its base composition explains.

    log-likelihood ratio = log p(window) - sum over its bases of log(frequency of the base in all regions)

Repeats and conserved regions stand out above 0. Each window is read from a fresh state.
"""

import math
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass

from hnet_lm.checks import require_whole
from hnet_lm.evaluation.scorer import Passage, Scorer
from hnet_lm.genome import Reference

WindowPlace = tuple[str, int, int]


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
    """The windows of all regions, in order and lazily; the last one of a region may be shorter."""
    require_whole("window", window, 1)
    require_whole("stride", stride, 1)
    return _scored(scorer, reference, window, stride)


def _scored(scorer: Scorer, reference: Reference, window: int, stride: int) -> Iterator[WindowScore]:
    counts = Counter[int]()
    for region in reference:
        counts.update(region.bases)
    log_frequency = {base: math.log(count / counts.total()) for base, count in counts.items()}
    places = (
        (region, start, min(start + window, len(region.bases)))
        for region in reference
        for start in range(0, max(len(region.bases) - window + stride, 1), stride)
        if start < len(region.bases)
    )
    in_work: deque[tuple[WindowPlace, float]] = deque()

    def passages() -> Iterator[Passage]:
        for region, start, end in places:
            bases = region.bases[start:end]
            background = sum(n * log_frequency[base] for base, n in Counter(bases).items())
            in_work.append(((region.sequence, region.start + start, region.start + end), background))
            yield Passage(bases)

    for score in scorer.score(passages()):
        place, background = in_work.popleft()
        yield WindowScore(*place, score.logprob, background)
