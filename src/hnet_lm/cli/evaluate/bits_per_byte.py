"""`hnet-lm evaluate bpb`."""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from typing import Annotated, Literal, TypeVar

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.tables import percent, print_table, rounded
from hnet_lm.cli.terminal import print_json
from hnet_lm.errors import UserError
from hnet_lm.evaluation import (
    BitsPerByte,
    BoundaryStatistics,
    ByteScorer,
    Evaluation,
    PassageScore,
    TokenScorer,
    bits_per_byte,
    compressor_bits_per_byte,
    spelling_cost,
)
from hnet_lm.evaluation.spelling_cost import first_bytes
from hnet_lm.inputs import local

T = TypeVar("T")

Files = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME=]FILE ...")]


@dataclass(frozen=True)
class EvaluateBitsPerByte(Evaluation):
    """Bits per byte of whole documents, by domain, with a 95 % bootstrap interval over documents, and the chunks."""

    model: Model
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    files: Files
    """Text, JSONL, parquet, FASTA or any bytes, globs, or sample:english (its held-out part); NAME= names a domain."""
    max_bytes: int | None = None
    """Stop each file after the document with which it has given so many bytes."""
    compressors: tuple[Literal["gzip", "xz", "zstd"], ...] = ()
    """Compressors to compare with, each on all documents of a domain as one file."""
    spelling_bytes: int = 1000
    """Of a model of tokens: on so many bytes, count all spellings of the text, not the tokenizer's alone; 0: none."""
    max_spellings: int = 16
    """The most spellings that are followed at a time; the least likely are left out."""
    json: bool = False
    """Print JSON, with the histograms of chunk lengths, instead of tables."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if not self.files:
            raise UserError("evaluate bpb needs a file of documents, or sample:english")
        require_at_least(1, max_bytes=self.max_bytes, max_spellings=self.max_spellings)
        require_at_least(0, spelling_bytes=self.spelling_bytes)
        for name in self.compressors:  # one that is not installed is said now
            compressor_bits_per_byte(b"text", name)
        paths = named_files(self.files)
        scorer = self.reading.scorer(self.model, unit_starts=True)
        domains = {domain: self._texts(of_domain, scorer) for domain, of_domain in paths.items()}
        chunks = BoundaryStatistics()
        data: dict[str, list[bytes]] = {domain: [] for domain in domains}
        spelled: list[bytes] = []

        def on_document(domain: str, text: bytes, score: PassageScore) -> None:
            chunks.add(domain, text, score)
            if room := self.spelling_bytes - sum(map(len, spelled)):
                spelled.append(first_bytes(text, room))
            if self.compressors:
                data[domain].append(text)

        found = bits_per_byte(scorer, domains, on_document)
        compressed = {domain: self._compressed(b"".join(texts)) for domain, texts in data.items()}
        spellings = None
        if isinstance(scorer, TokenScorer) and self.reading.window is None and any(spelled):
            spellings = spelling_cost(scorer, spelled, self.max_spellings)
        if self.json:
            of_spellings = {} if spellings is None else {"spellings": spellings.to_json()}
            print_json(found.to_json() | {"chunks": chunks.to_json(), "compressors": compressed} | of_spellings)
            return
        rows = [_result_row(name, result, compressed[name]) for name, result in found.by_domain.items()]
        if len(rows) > 1:
            rows.append(_result_row("all", found, dict.fromkeys(self.compressors)))
        print_table(("domain", "documents", "bytes", "bits/byte", "95 %", "with EOS", *self.compressors), rows)
        if any(chunks.domains.values()):
            print_table(("domain", "stage", "chunks", "bytes/chunk", "sd", "at space", "at word"), _chunk_rows(chunks))
        if spellings is not None:
            rows = [
                ["the tokenizer's alone", f"{spellings.num_bytes:,}", rounded(spellings.canonical)],
                [f"up to {spellings.max_spellings}", f"{spellings.num_bytes:,}", rounded(spellings.all_spellings)],
            ]
            print_table(("spellings", "bytes", "bits/byte"), rows)

    def _texts(self, paths: Iterable[str], scorer: ByteScorer) -> Iterator[bytes]:
        """The documents of the paths; that the first of each can be read is found out now, not after hours."""
        vocab_size = scorer.model.config.vocab_size
        texts = [documents(path, self.max_bytes, self.reading, vocab_size=vocab_size) for path in paths]
        return chain.from_iterable([begun(of_path) for of_path in texts])

    def _compressed(self, data: bytes) -> dict[str, float]:
        return {name: compressor_bits_per_byte(data, name) for name in self.compressors if data}


def named_files(files: Iterable[str]) -> dict[str, list[str]]:
    """The paths of each domain."""
    paths: dict[str, list[str]] = {}
    for domain, path in map(_named, files):
        paths.setdefault(domain, []).append(path)
    return paths


def begun(texts: Iterator[T]) -> Iterator[T]:
    """The same, with its first document read now: what cannot be read is found out before hours of measuring."""
    first = list(islice(texts, 1))
    return chain(first, texts)


def _named(file: str) -> tuple[str, str]:
    """The domain and the path of NAME=PATH; a path alone, which may have a = in it, is its own domain."""
    match = re.fullmatch(r"([\w .-]+)=(.+)", file)
    return (match[1], match[2]) if match and not os.path.lexists(local(file)) else (file, file)


def _result_row(name: str, result: BitsPerByte, compressed: Mapping[str, float | None]) -> list[str]:
    interval = result.interval()
    span = "" if interval is None else f"{interval.low:.4f}-{interval.high:.4f}"
    figures = [f"{len(result.documents):,}", f"{result.num_bytes:,}", rounded(result.value), span]
    return [name, *figures, rounded(result.value_with_eos), *map(rounded, compressed.values())]


def _chunk_rows(chunks: BoundaryStatistics) -> Iterator[list[str]]:
    for name, stages in chunks.domains.items():
        for number, stage in enumerate(stages):
            lengths = (rounded(stage.bytes_per_chunk, 2), rounded(stage.length_sd, 2))
            shares = (percent(stage.space_share), percent(stage.word_share))
            yield [name, str(number), f"{stage.num_chunks:,}", *lengths, *shares]
