"""Both strands: DNA can be read as a sequence or as its reverse complement, and neither is preferred."""

from collections import deque
from collections.abc import Iterable, Iterator

from hnet_lm.evaluation.scorer import Passage, PassageScore, Scorer
from hnet_lm.genome.codes import reverse_complement


class BothStrands:
    """A `Scorer` of whole sequences: log-probabilities are the mean of those of the two strands. No unit starts."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer

    def score(self, passages: Iterable[Passage]) -> Iterator[PassageScore]:
        forward: deque[PassageScore] = deque()
        for score in self.scorer.score(_strands(passages)):
            forward.append(score)
            if len(forward) == 2:
                a, b = forward
                forward.clear()
                yield PassageScore(
                    (a.logprob + b.logprob) / 2,
                    a.num_bytes,
                    (a.eos_logprob + b.eos_logprob) / 2,
                    a.is_greedy and b.is_greedy,
                )


def _strands(passages: Iterable[Passage]) -> Iterator[Passage]:
    for passage in passages:
        if passage.prompt:
            raise ValueError("both strands of a passage after a prompt: the other strand's prompt is not known")
        yield passage
        yield Passage(reverse_complement(passage.data))
