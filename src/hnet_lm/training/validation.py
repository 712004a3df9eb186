"""Bits per byte on held-out documents while a run goes on, and a sample of text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from hnet_lm.data import DataConfig, SourceConfig, documents, open_byte_pairs
from hnet_lm.errors import DataError
from hnet_lm.evaluation import ByteScorer, CarriedState, PassageScore, TokenScorer, bits_per_byte
from hnet_lm.evaluation.enrichment import Enrichment, EnrichmentCollector
from hnet_lm.generation import generate
from hnet_lm.model import HNetLM
from hnet_lm.training.config import RunConfig

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


class Validator:
    """Every rank measures the same documents with the same calls, so that sharded models can be measured too."""

    def __init__(self, model: HNetLM, run: RunConfig, device: torch.device, precision: torch.dtype):
        self.model = model
        self.config = run.validation
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
        with torch.random.fork_rng(devices=[self.device] if self.device.type == "cuda" else []):
            self._measure(beginnings)

    def _beginning(self, source: SourceConfig) -> bytes:
        for document in documents(DataConfig(sources=(source,))):
            if document.data:
                return document.data[: min(REHEARSED_BYTES, self.config.max_bytes)]
        raise DataError(f"validation.sources: {source.path} holds no text")

    def measure(self) -> Measured:
        """Raises DataError."""
        return self._measure(self._documents())

    def _measure(self, texts: Iterable[bytes]) -> Measured:
        autocast = torch.autocast(self.device.type, self.precision, enabled=self.precision != torch.float32)
        collector = EnrichmentCollector()

        def on_document(domain: str, data: bytes, score: PassageScore) -> None:
            if score.byte_logprobs is not None:
                collector.add(score)

        self.model.eval()
        with torch.no_grad(), autocast:
            result = bits_per_byte(self.scorer, {"validation": texts}, on_document)
            writes = self.config.sample_bytes and not self.model.config.reads_tokens
            sample = self._sample() if writes else None
        self.model.train()
        return Measured(result.value, result.num_bytes, sample, tuple(collector.enrichments()))

    def _documents(self) -> Iterator[bytes]:
        """Held-out documents until `max_bytes`; the one that crosses it is cut."""
        room = self.config.max_bytes
        for document in documents(DataConfig(sources=self.config.sources)):
            yield document.data[:room]
            room -= len(document.data)
            if room <= 0:
                return

    def _sample(self) -> str:
        prompt = self.config.sample_prompt
        options: dict[str, Any] = {"max_new_bytes": self.config.sample_bytes, "temperature": 0.8, "top_p": 0.95}
        (text,) = generate(self.model, [prompt], seed=SAMPLE_SEED, **options)
        return prompt + text
