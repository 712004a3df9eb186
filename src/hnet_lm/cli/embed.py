"""`hnet-lm embed`: vectors of documents, or of regions of a genome, as arrays in an .npz file."""

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import numpy as np
import tyro

from hnet_lm.cli.evaluate.reading import Reading, documents
from hnet_lm.cli.loading import PrecisionOption, load_model
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.data.samples import SAMPLE_PREFIX, sample_path
from hnet_lm.errors import DataError, UserError
from hnet_lm.evaluation.embeddings import Embeddings, embed
from hnet_lm.genome import BedInterval, Reference, read_bed, reverse_complement
from hnet_lm.outputs import Output


class _Piece(NamedTuple):
    """Bytes to read, of which those from `start` on are embedded; `facts` are written beside them."""

    data: bytes
    start: int
    facts: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """Write vectors of documents, or of the intervals of --bed, to an .npz file: of bytes, as the head reads them, and
    of chunks, as the innermost network outputs them."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FILE")]
    """Text, JSONL, parquet, FASTA or any bytes, a glob, or sample:english (its held-out part); with --bed, FASTA."""
    output: Annotated[str, tyro.conf.arg(aliases=("-o",), metavar="FILE.npz")]
    """The file to write; - is standard output."""
    bed: Path | None = None
    """Embed these intervals instead of whole documents; one on the - strand is read as its reverse complement."""
    flank: int = 0
    """Bases before an interval (on its strand) that the model reads as context, without vectors."""
    pool: Literal["mean", "last", "none"] = "mean"
    """One row per document or interval, the mean of its vectors or the last one; or all vectors, concatenated."""
    max_bytes: int | None = None
    """Without --bed: stop after the document that reaches this many bytes."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    precision: PrecisionOption = None
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)

    def run(self) -> None:
        require_at_least(0, flank=self.flank)
        require_at_least(1, max_bytes=self.max_bytes)
        if self.bed is None and self.flank:
            raise UserError("--flank goes with --bed")
        if self.bed is not None and self.max_bytes is not None:
            raise UserError("--max-bytes goes with whole documents, without --bed")
        output = Output.tried(self.output, ("npz",))
        model = load_model(self.model, self.device, self.precision)
        if model.config.reads_tokens:
            raise UserError(f"{self.model}: the model reads tokens; embeddings are of models of bytes")
        rows: list[Sequence[np.ndarray]] = []
        facts: list[dict[str, Any]] = []
        pieces = self._documents(model.config.vocab_size) if self.bed is None else self._intervals(self.bed)
        for piece in pieces:
            embeddings = embed(model, piece.data)
            facts.append(piece.facts)
            if self.pool == "none":
                rows.append(_all_rows(embeddings, piece.start))
            else:
                pooled = embeddings.pooled(piece.start, len(piece.data), self.pool)
                rows.append([vector.numpy()[None] for vector in pooled])
        if not rows:
            raise DataError(f"{self.bed or self.file}: has nothing to embed")
        buffer = io.BytesIO()
        arrays: dict[str, Any] = _arrays(rows, self.pool == "none") | _columns(facts)
        np.savez(buffer, **arrays)
        output.write(buffer.getvalue())
        if not output.is_standard_output:
            say(f"{output.given}: {len(rows):,} {'documents' if self.bed is None else 'intervals'}")

    def _documents(self, vocab_size: int) -> Iterator[_Piece]:
        found = documents(self.file, self.max_bytes, Reading(sources=self.sources), vocab_size=vocab_size)
        for number, data in enumerate(found):
            if data:
                yield _Piece(data, 0, {"document": number})

    def _intervals(self, bed: Path) -> Iterator[_Piece]:
        is_sample = self.file.startswith(SAMPLE_PREFIX)
        path = sample_path(self.file.removeprefix(SAMPLE_PREFIX), "validation") if is_sample else self.file
        intervals = list(read_bed(bed))  # before the genome, so that a mistake is reported at once
        reference = Reference.read(path)
        report = self.sources.report()
        for interval in intervals:
            try:
                data = _bases(reference, interval, self.flank, f"{bed}, line {interval.line}")
            except DataError as error:
                report(error)
                continue
            columns = ("sequence", "start", "end", "name", "strand")
            facts = {column: getattr(interval, column) for column in columns}
            yield _Piece(data, len(data) - (interval.end - interval.start), facts)
        if report.num_skipped:
            say(f"{bed}: intervals left out: {report.num_skipped:,}")


def _bases(reference: Reference, interval: BedInterval, flank: int, where: str) -> bytes:
    """The flank and the interval, on its strand."""
    if interval.start == interval.end:
        raise DataError(f"{where}: the interval has no base")
    region = reference.region(interval.sequence, interval.start, interval.end)
    if region is None:
        place = f"{interval.sequence}:{interval.start + 1}-{interval.end}"
        raise DataError(f"{where}: {place} is not in the FASTA, which has {reference.absence(interval.sequence)}")
    if interval.strand == "-":
        return reverse_complement(region.part(interval.start, interval.end + flank).bases)
    return region.part(interval.start - flank, interval.end).bases


def _all_rows(embeddings: Embeddings, start: int) -> Sequence[np.ndarray]:
    """The vectors of the bytes from `start` on and of the chunks that start there, and the starts of these."""
    is_inside = embeddings.chunk_starts >= start
    chunk_starts = embeddings.chunk_starts[is_inside].numpy() - start
    return embeddings.bytes[start:].float().numpy(), embeddings.chunks[is_inside].float().numpy(), chunk_starts


def _arrays(rows: list[Sequence[np.ndarray]], is_unpooled: bool) -> dict[str, np.ndarray]:
    names = ("bytes", "chunks", "chunk_starts") if is_unpooled else ("bytes", "chunks")
    arrays = {name: np.concatenate(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    if is_unpooled:
        for name, column in (("byte_offsets", 0), ("chunk_offsets", 1)):
            arrays[name] = np.cumsum([0, *(len(row[column]) for row in rows)])
    return arrays


def _columns(facts: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    return {name: np.array([row[name] for row in facts]) for name in facts[0]}
