"""Bits per byte: how many bits a model needs per byte of text, over whole documents.

    bits per byte = - sum of log2 p(byte | all bytes before it) / number of bytes

The sums run over all bytes of all documents, in nats and float64, so that documents are weighted by their length. The
first byte is predicted from BOS. The end of the document (EOS) is predicted too; it is not a byte, so it is reported
separately (`eos_nats`) and counted only on request. For a model of tokens the numerator sums over its tokens and the
denominator is still the number of bytes of the text, so both kinds of model are on one scale.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.evaluation.scorer import Passage, PassageScore, Scorer

OnDocument = Callable[[str, bytes, PassageScore], None]


@dataclass(frozen=True)
class DocumentResult:
    """One document: nats of its bytes, and of the end after them."""

    domain: str
    nats: float
    num_bytes: int
    eos_nats: float


@dataclass(frozen=True)
class Interval:
    """A percentile interval of resampled results."""

    low: float
    high: float
    confidence: float


@dataclass(frozen=True)
class BitsPerByte:
    """The results of all documents, and the figures derived from them."""

    documents: tuple[DocumentResult, ...]

    @property
    def num_bytes(self) -> int:
        return sum(document.num_bytes for document in self.documents)

    @property
    def nats(self) -> float:
        return math.fsum(document.nats for document in self.documents)

    @property
    def value(self) -> float:
        """Bits per byte, without the ends of documents."""
        return self.nats / math.log(2) / self.num_bytes

    @property
    def value_with_eos(self) -> float:
        """The same, with the bits of every document's end in the numerator."""
        eos_nats = math.fsum(document.eos_nats for document in self.documents)
        return (self.nats + eos_nats) / math.log(2) / self.num_bytes

    @cached_property
    def by_domain(self) -> "dict[str, BitsPerByte]":
        domains: dict[str, list[DocumentResult]] = {}
        for document in self.documents:
            domains.setdefault(document.domain, []).append(document)
        return {domain: BitsPerByte(tuple(documents)) for domain, documents in domains.items()}

    def interval(self, confidence: float = 0.95, num_resamples: int = 1000, seed: int = 0) -> Interval | None:
        """Bootstrap over documents, resampled with replacement within each domain. None if no domain has two."""
        groups = [
            np.array([(d.nats, d.num_bytes) for d in results.documents], dtype=np.float64)
            for results in self.by_domain.values()
        ]
        if all(len(group) < 2 for group in groups):
            return None
        random = np.random.default_rng(seed)
        values = []
        for _ in range(num_resamples):
            sums = sum(group[random.integers(len(group), size=len(group))].sum(0) for group in groups)
            nats, num_bytes = np.asarray(sums)
            values.append(nats / math.log(2) / num_bytes)
        tail = (1 - confidence) / 2
        low, high = np.quantile(values, [tail, 1 - tail])
        return Interval(float(low), float(high), confidence)

    def to_json(self) -> dict[str, Any]:
        """Figures of the whole, and of each domain if there are several."""
        interval = self.interval()
        own: dict[str, Any] = {
            "bits_per_byte": self.value,
            "interval_95": None if interval is None else [interval.low, interval.high],
            "bits_per_byte_with_eos": self.value_with_eos,
            "num_bytes": self.num_bytes,
            "num_documents": len(self.documents),
        }
        if len(self.by_domain) > 1:
            own["domains"] = {domain: results.to_json() for domain, results in self.by_domain.items()}
        return own


def bits_per_byte(
    scorer: Scorer, documents: Mapping[str, Iterable[bytes | Passage]], on_document: OnDocument | None = None
) -> BitsPerByte:
    """Measure a model on the documents of each domain; `on_document(domain, data, score)` is called after each.

    The prompt of a passage is not counted. Empty documents are left out. Raises DataError if there is no byte at all.
    """
    in_work: deque[tuple[str, bytes]] = deque()

    def passages() -> Iterator[Passage]:
        for domain, texts in documents.items():
            for text in texts:
                passage = text if isinstance(text, Passage) else Passage(text)
                if passage.data:
                    in_work.append((domain, passage.data))
                    yield passage

    results = []
    for score in scorer.score(passages()):
        domain, data = in_work.popleft()
        results.append(DocumentResult(domain, -score.logprob, score.num_bytes, -score.eos_logprob))
        if on_document is not None:
            on_document(domain, data, score)
    if not results:
        raise DataError(f"no bytes to measure bits per byte on: {', '.join(documents) or 'no domain'} is empty")
    return BitsPerByte(tuple(results))
