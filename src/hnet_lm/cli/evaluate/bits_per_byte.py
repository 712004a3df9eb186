"""`hnet-lm evaluate bpb`."""

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Literal

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.tables import percent, print_table, rounded
from hnet_lm.errors import UserError
from hnet_lm.evaluation import (
    BitsPerByte,
    BoundaryStatistics,
    ByteScorer,
    PassageScore,
    bits_per_byte,
    compressor_bits_per_byte,
)
from hnet_lm.inputs import local

Files = Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="[NAME=]FILE ...")]


@dataclass(frozen=True)
class EvaluateBitsPerByte:
    """Bits per byte of whole documents, by domain, with a 95 % bootstrap interval over documents, and the chunks."""

    model: Model
    """A saved directory, or hf:owner/name."""
    files: Files
    """Text, JSONL, parquet, FASTA or any bytes, globs, or sample:english (its held-out part); NAME= names a domain."""
    max_bytes: int | None = None
    """Stop each file after the document with which it has given so many bytes."""
    compressors: tuple[Literal["gzip", "xz", "zstd"], ...] = ()
    """Compressors to compare with, each on all documents of a domain as one file."""
    json: bool = False
    """Print JSON, with the histograms of chunk lengths, instead of tables."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if not self.files:
            raise UserError("evaluate bpb needs a file of documents, or sample:english")
        paths: dict[str, list[str]] = {}
        for domain, path in map(_named, self.files):
            paths.setdefault(domain, []).append(path)
        chunks = BoundaryStatistics()
        texts = {domain: bytearray() for domain in paths}  # for the compressors; a pipe cannot be read again

        def add(domain: str, data: bytes, score: PassageScore) -> None:
            chunks.add(domain, data, score)
            if self.compressors:
                texts[domain] += data

        scorer = self.reading.scorer(self.model, unit_starts=True)
        domains = {domain: self._texts(of_domain, scorer) for domain, of_domain in paths.items()}
        found = bits_per_byte(scorer, domains, add)
        compressed = {
            domain: {name: compressor_bits_per_byte(bytes(data), name) for name in self.compressors if data}
            for domain, data in texts.items()
        }
        if self.json:
            print(json.dumps(found.to_json() | {"chunks": chunks.to_json(), "compressors": compressed}))
            return
        rows = [_result_row(name, result, compressed[name]) for name, result in found.by_domain.items()]
        if len(rows) > 1:
            rows.append(_result_row("all", found, dict.fromkeys(self.compressors)))
        print_table(("domain", "documents", "bytes", "bits/byte", "95 %", "with EOS", *self.compressors), rows)
        if any(chunks.domains.values()):
            print_table(("domain", "stage", "chunks", "bytes/chunk", "sd", "at space", "at word"), _chunk_rows(chunks))

    def _texts(self, paths: Iterable[str], scorer: ByteScorer) -> Iterator[bytes]:
        vocab_size = scorer.model.config.vocab_size
        return chain.from_iterable(
            documents(path, self.max_bytes, self.reading, vocab_size=vocab_size) for path in paths
        )


def _named(file: str) -> tuple[str, str]:
    """The domain and the path of NAME=PATH; a path alone, which may have a = in it, is its own domain."""
    match = re.fullmatch(r"([\w .-]+)=(.+)", file)
    return (match[1], match[2]) if match and not os.path.lexists(local(file)) else (file, file)


def _result_row(name: str, result: BitsPerByte, compressed: Mapping[str, float | None]) -> list[str]:
    interval = result.interval()
    span = "" if interval is None else f"{interval.low:.4f} to {interval.high:.4f}"
    figures = [f"{len(result.documents):,}", f"{result.num_bytes:,}", rounded(result.value), span]
    return [name, *figures, rounded(result.value_with_eos), *map(rounded, compressed.values())]


def _chunk_rows(chunks: BoundaryStatistics) -> Iterator[list[str]]:
    for name, stages in chunks.domains.items():
        for number, stage in enumerate(stages):
            lengths = (rounded(stage.bytes_per_chunk, 2), rounded(stage.length_sd, 2))
            shares = (percent(stage.space_share), percent(stage.word_share))
            yield [name, str(number), f"{stage.num_chunks:,}", *lengths, *shares]
