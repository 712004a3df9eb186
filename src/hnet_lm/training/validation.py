"""Bits per byte on held-out documents while a run goes on, and a sample of text."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from time import monotonic
from typing import Any

import torch

from hnet_lm.data import DataConfig, Document, SourceConfig, documents, open_byte_pairs
from hnet_lm.errors import DataError
from hnet_lm.evaluation import ByteScorer, CarriedState, Passage, PassageScore, TokenScorer, bits_per_byte
from hnet_lm.evaluation.enrichment import Enrichment, EnrichmentCollector
from hnet_lm.generation import generate
from hnet_lm.model import HNetLM
from hnet_lm.training.config import RunConfig
from hnet_lm.training.progress import Meter
from hnet_lm.training.sections import ValidationConfig

SAMPLE_SEED = 0
REHEARSED_BYTES = 256


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


class Validator:
    """Every rank measures the same documents with the same calls, so that sharded models can be measured too."""

    def __init__(
        self,
        model: HNetLM,
        run: RunConfig,
        device: torch.device,
        precision: torch.dtype,
        say: Callable[[str], None] = lambda message: None,
    ):
        self.model = model
        self.say = say
        self.config = run.validation
        self.data = run.data
        context = CarriedState(self.config.context)
        if run.data.tokenizer:
            self.scorer = TokenScorer(model, open_byte_pairs(run.data.tokenizer), context)
        else:
            self.scorer = ByteScorer(model, context, unit_starts=True, byte_logprobs=True)
        self.device = device
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
        """Raises DataError."""
        self.scorer.on_positions = Meter("validation", self.say, self.config.max_bytes).advance
        return self._measure(self._documents(self.config.max_bytes))

    def _measure(self, texts: Iterable[bytes | Passage], *, has_sample: bool = True) -> Measured:
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        collector = EnrichmentCollector()

        def on_document(domain: str, data: bytes, score: PassageScore) -> None:
            if score.byte_logprobs is not None:
                collector.add(score)

        self.model.eval()
        with torch.no_grad(), autocast:
            result = bits_per_byte(self.scorer, {"validation": texts}, on_document)
            writes = has_sample and self.config.sample_bytes and not self.model.config.reads_tokens
            sample = self._sample() if writes else None
        self.model.train()
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
