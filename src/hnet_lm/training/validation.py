"""Bits per byte on held-out documents while a run goes on, and a sample of text."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any, NamedTuple

import torch

from hnet_lm.data import DataConfig, Document, SourceConfig, documents, open_byte_pairs
from hnet_lm.errors import DataError
from hnet_lm.evaluation import (
    BitsPerByte,
    ByteScorer,
    CarriedState,
    DocumentResult,
    Passage,
    PassageScore,
    TokenScorer,
    bits_per_byte,
)
from hnet_lm.evaluation.enrichment import Enrichment, EnrichmentCollector
from hnet_lm.generation import generate
from hnet_lm.model import HNetLM
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.progress import Meter
from hnet_lm.training.sections import ValidationConfig
from hnet_lm.training.sharding import whole_weights

SAMPLE_SEED = 0
REHEARSED_BYTES = 256
GROUP_BYTES = 1 << 16
"""Documents are measured, and dealt out to ranks, in groups of so many bytes."""


@dataclass(frozen=True)
class Measured:
    """What a validation found."""

    bits_per_byte: float
    num_bytes: int
    sample: str | None
    enrichments: tuple[Enrichment, ...] = ()
    """Of each stage that chunks, outermost first."""

    def record(self) -> dict[str, Any]:
        found = {"validation/bits_per_byte": self.bits_per_byte, "validation/num_bytes": self.num_bytes}
        for stage, enrichment in enumerate(self.enrichments):
            if enrichment.num_cuts:
                found[f"validation/stage{stage}/boundary_enrichment"] = enrichment.value
                found[f"validation/stage{stage}/boundary_enrichment_by_chance"] = enrichment.null_mean
        return found if self.sample is None else found | {"sample": self.sample}


def validation_documents(validation: ValidationConfig, data: DataConfig) -> Iterator[Document]:
    """What a run is validated on: the validation sources, or what is held out of the sources of its data."""
    if validation.hold_out:
        return documents(dataclasses.replace(data, tokenizer=""), hold_out=validation.hold_out)
    return documents(DataConfig(sources=validation.sources))


class Share(NamedTuple):
    """What one rank found in one group of documents."""

    number: int
    """Of the group."""
    documents: tuple[DocumentResult, ...]
    scores: list[PassageScore]
    """Of each document, where the scorer tells of single bytes."""


class Validator:
    """Documents are dealt out in groups that do not depend on the number of ranks, each measured by itself: so the
    figure is the same to the last bit for any number of them. Only the first rank writes the sample.

    Meanwhile every rank has the whole weights, under FSDP as well, and no call waits for another rank.
    """

    def __init__(
        self,
        model: HNetLM,
        run: RunConfig,
        ranks: Ranks,
        precision: torch.dtype,
        say: Callable[[str], None] = lambda message: None,
    ):
        self.model = model
        self.ranks = ranks
        self.say = say
        self.config = run.validation
        self.data = run.data
        context = CarriedState(self.config.context)
        if run.data.tokenizer:
            self.scorer = TokenScorer(model, open_byte_pairs(run.data.tokenizer), context)
        else:
            self.scorer = ByteScorer(model, context, unit_starts=True, byte_logprobs=True)
        self.device = ranks.device
        self.precision = precision

    def rehearse(self) -> None:
        """Measure a little of the first document of every source, and write the sample: whatever would fail, fails now.

        Raises the UserError of a source that cannot be read. Leaves torch's random states as they were.
        """
        beginnings = [self._beginning(source) for source in self.config.sources]
        if self.config.hold_out:
            beginnings = [self._beginning_of_held_out()]
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._measure(beginnings)

    def _beginning(self, source: SourceConfig) -> bytes:
        text = self._first(documents(DataConfig(sources=(source,))))
        if text is None:
            raise DataError(f"validation.sources: {source.path} holds no text")
        return text

    def _beginning_of_held_out(self) -> bytes:
        text = self._first(validation_documents(self.config, self.data))
        if text is None:
            raise DataError(
                f"validation.hold_out: {self.config.hold_out:g} of the documents of data.sources are none; a file "
                "without a separator is one document, so give data.sources.separator, a larger fraction, or "
                "validation.sources"
            )
        return text

    def _first(self, found: Iterator[Document]) -> bytes | None:
        """The beginning of the first document that is not empty."""
        texts = (document.data[: min(REHEARSED_BYTES, self.config.max_bytes)] for document in found)
        return next(filter(None, texts), None)

    def estimate_seconds(self) -> float:
        """About how long `measure` takes, from a sixteenth of its text. Leaves torch's random states as they were."""
        texts = self._documents(self.config.max_bytes)
        num_bytes = sum(len(text.data + text.prompt if isinstance(text, Passage) else text) for text in texts)
        limit = max(1, num_bytes // 16)
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            started = monotonic()
            self._measure(self._documents(limit), has_sample=False)
            of_text = monotonic() - started
            self._measure(self._documents(1))
            of_sample = monotonic() - started - of_text
        return of_text * num_bytes / limit + of_sample

    def measure(self) -> Measured:
        """All ranks call this together. Raises DataError; what fails on one rank is an error on all."""
        total = self.config.max_bytes // self.ranks.num_ranks
        self.scorer.on_positions = Meter("validation", self.say, total).advance
        return self._measure(self._documents(self.config.max_bytes))

    def _measure(self, texts: Iterable[bytes | Passage], *, has_sample: bool = True) -> Measured:
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        shares: list[Share] = []
        sample = failure = None
        with whole_weights(self.model):
            self.model.eval()
            try:
                with torch.no_grad(), autocast:
                    shares = [self._score(number, group) for number, group in self._own(texts)]
                    writes = has_sample and self.config.sample_bytes and not self.model.config.reads_tokens
                    sample = self._sample() if writes and self.ranks.is_first else None
            except Exception as error:  # of any kind: the other ranks wait, and hear of it first
                failure = error
            self.model.train()
        if failure is not None or self.ranks.sum_of(failure is not None)[0]:
            raise failure or TrainingError("the validation failed on another rank")
        return self._put_together(shares, sample)

    def _own(self, texts: Iterable[bytes | Passage]) -> Iterator[tuple[int, list[bytes | Passage]]]:
        """This rank's groups of the documents, with their numbers: each goes to the rank that has least so far."""
        loads = [0] * self.ranks.num_ranks
        for number, (group, size) in enumerate(_groups(texts)):
            rank = loads.index(min(loads))
            loads[rank] += size
            if rank == self.ranks.rank:
                yield number, group

    def _score(self, number: int, texts: Iterable[bytes | Passage]) -> "Share":
        scores: list[PassageScore] = []
        result = bits_per_byte(self.scorer, {"validation": texts}, lambda domain, data, score: scores.append(score))
        return Share(number, result.documents, [score for score in scores if score.byte_logprobs is not None])

    def _put_together(self, shares: "list[Share]", sample: str | None) -> Measured:
        """What all ranks found, in the order of the documents. Raises DataError if there is no byte at all."""
        of_ranks = self.ranks.gathered([(share.number, share.documents) for share in shares])
        groups = sorted(group for of_rank in of_ranks for group in of_rank)
        result = BitsPerByte(tuple(document for _, documents in groups for document in documents))
        if not result.documents:
            raise DataError("no bytes to measure bits per byte on: validation is empty")
        collector = EnrichmentCollector()
        scores = [share for of_rank in self.ranks.gathered_on_first(shares) for share in of_rank]
        for share in sorted(scores, key=lambda share: share.number):
            for score in share.scores:
                collector.add(score)
        return Measured(result.value, result.num_bytes, sample, tuple(collector.enrichments()))

    def _documents(self, max_bytes: int) -> Iterator[bytes | Passage]:
        """Held-out documents until so many bytes; the one that crosses it is cut. Prompts count as bytes here."""
        room = max_bytes
        for document in validation_documents(self.config, self.data):
            data, num_prompt = document.data[:room], document.num_prompt
            yield Passage(data[num_prompt:], data[:num_prompt]) if num_prompt else data
            room -= len(document.data)
            if room <= 0:
                return

    def _sample(self) -> str:
        prompt = self.config.sample_prompt
        options: dict[str, Any] = {"max_new_bytes": self.config.sample_bytes, "temperature": 0.8, "top_p": 0.95}
        (text,) = generate(self.model, [prompt], seed=SAMPLE_SEED, **options)
        return prompt + text


def _groups(texts: Iterable[bytes | Passage]) -> Iterator[tuple[list[bytes | Passage], int]]:
    """Consecutive documents that hold any byte, in groups of so many bytes or a little more, and their sizes."""
    group: list[bytes | Passage] = []
    size = 0
    for text in texts:
        passage = text if isinstance(text, Passage) else Passage(text)
        if not passage.data:
            continue
        group.append(passage)
        size += len(passage.data) + len(passage.prompt)
        if size >= GROUP_BYTES:
            yield group, size
            group, size = [], 0
    if group:
        yield group, size
