"""`hnet-lm chunks`: where a model cuts a text, as a picture, a page, figures or numbers."""

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich import box
from rich.console import Console
from rich.table import Table

from hnet_lm.checkpoint import load
from hnet_lm.cli.input import STANDARD_INPUT, read_bytes, read_text
from hnet_lm.data import DataConfig, FastaConfig, SourceConfig, documents
from hnet_lm.data.files import content_suffix
from hnet_lm.data.formats import FORMAT_OF_SUFFIX
from hnet_lm.errors import DataError, UserError
from hnet_lm.extras import import_leaf
from hnet_lm.generation.params import as_bytes
from hnet_lm.inspect import (
    Agreement,
    Chunks,
    StageSummary,
    agreement,
    chunks,
    references,
    render_html,
    summarize,
    terminal,
)


@dataclass(frozen=True)
class Compare:
    """What to compare the chunk starts with, beside spaces; each asks for --statistics too."""

    bpe: Path | None = None
    """A tokenizer.json: where its tokens start."""
    words: Path | None = None
    """A file of the text's words in their order, separated by white space, as a word segmenter writes it."""
    codons: int | None = None
    """The reading frame, 0, 1 or 2: where codons start."""
    bed: Path | None = None
    """A BED file: where its intervals start and end."""
    bed_sequence: str | None = None
    """Only the BED lines of this sequence, such as chr20."""
    bed_origin: int = 0
    """Position of the text's first base in that sequence, counted from 0."""

    @property
    def is_asked_for(self) -> bool:
        return any(value is not None for value in (self.bpe, self.words, self.codons, self.bed))

    def offsets(self, data: bytes) -> dict[str, np.ndarray]:
        """The boundaries of every reference by name."""
        found: dict[str, np.ndarray] = {}
        if len(spaces := references.space_offsets(data)):  # DNA has none
            found |= {"spaces": spaces, "after spaces": references.after_space_offsets(data)}
        if self.bpe is not None:
            leaf = import_leaf("hnet_lm.inspect.bpe", "eval", "--bpe")
            found[f"tokens of {self.bpe.name}"] = leaf.bpe_offsets(data, self.bpe)
        if self.words is not None:
            found[f"words of {self.words.name}"] = references.word_offsets(data, read_text(self.words).split())
        if self.codons is not None:
            found[f"codons, frame {self.codons}"] = references.codon_offsets(len(data), self.codons)
        if self.bed is not None:
            marked = references.bed_offsets(self.bed, self.bed_sequence, len(data), self.bed_origin)
            found[f"intervals of {self.bed.name}"] = marked
        return found


@dataclass(frozen=True)
class Command:
    """Show where a model cuts a text, stage by stage: in the terminal, or as asked for by --html, --png and so on."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, or hf:owner/name."""
    text: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="TEXT")] = None
    """The text; without it --file or standard input."""
    file: str | None = None
    """A file of text, FASTA, JSONL or any bytes, compressed or not; or sample:english (chinese, code, dna)."""
    document: int = 0
    """Which document of the file, counted from 0: a line of JSONL, of FASTA a stretch of --max-bytes bases."""
    max_bytes: int = 1_000_000
    """Look at so many bytes from the beginning at most."""
    probabilities: bool = False
    """In the terminal: a row of bars with the boundary probability of every position as well."""
    html: Path | None = None
    """Write a page for the browser, with the probabilities under the pointer."""
    png: Path | None = None
    """Write a picture of the beginning, and of the chunk lengths."""
    statistics: bool = False
    """Print chunk lengths, and how the boundaries agree with spaces and with what else is asked for."""
    json: bool = False
    """Print all probabilities, chunk starts and figures as JSON."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    compare: tyro.conf.OmitArgPrefixes[Compare] = field(default_factory=Compare)

    def run(self) -> None:
        for name, value, least in (("max-bytes", self.max_bytes, 1), ("document", self.document, 0)):
            if value < least:
                raise UserError(f"--{name} must be {least} or more, got {value}")
        data, title = self._read()
        found = chunks(load(self.model, device=self.device), data)
        wants_statistics = self.statistics or self.compare.is_asked_for
        if self.html is not None:
            with _naming(self.html):
                self.html.write_text(render_html(found, title), encoding="utf-8")
        if self.png is not None:
            leaf = import_leaf("hnet_lm.inspect.png", "plot", "--png")
            with _naming(self.png):
                leaf.save_png(found, self.png, title)
        if self.json:
            print(json.dumps(self._facts(found)))
        elif wants_statistics:
            _print_statistics(summarize(found), self._agreements(found))
        elif self.html is None and self.png is None:
            _draw(found, self.probabilities)

    def _agreements(self, found: Chunks) -> list[list[Agreement]]:
        """For every stage the agreement with every reference."""
        offsets = self.compare.offsets(found.data)
        return [[agreement(stage, name, marked) for name, marked in offsets.items()] for stage in found.stages]

    def _facts(self, found: Chunks) -> dict[str, Any]:
        facts = found.to_json()
        rows = zip(facts["stages"], summarize(found), self._agreements(found), strict=True)
        for stage, summary, agreements in rows:
            stage["summary"] = summary.to_json()
            stage["agreement"] = [item.to_json() for item in agreements]
        return facts

    def _read(self) -> tuple[bytes, str]:
        """The text, and what to call it."""
        if self.text is not None:
            if self.file is not None:
                raise UserError("a text and --file are given; leave out one")
            return as_bytes(self.text, "text")[: self.max_bytes], "text"
        if self.file is None:
            if sys.stdin.isatty():
                raise UserError("no text: give one as an argument, by --file or on standard input")
            return read_bytes(STANDARD_INPUT)[: self.max_bytes], "standard input"
        is_known = content_suffix(self.file) in FORMAT_OF_SUFFIX or ":" in self.file
        fasta = FastaConfig(n_runs="keep", window=self.max_bytes)  # so that offsets are the record's own
        source = SourceConfig(self.file, format="auto" if is_known else "bytes", fasta=fasta)
        document = next(islice(documents(DataConfig((source,))), self.document, None), None)
        if document is None:
            raise DataError(f"{self.file}: has no document {self.document} (they are counted from 0)")
        return document.data[: self.max_bytes], self.file


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """A file that cannot be written is the user's to mend."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: cannot be written: {error.strerror}") from error


def _draw(found: Chunks, probabilities: bool) -> None:
    console = Console(highlight=False)
    for line in terminal.render(found, console.width, probabilities):
        console.print(line, soft_wrap=True)


def _print_statistics(summaries: Sequence[StageSummary], agreements: Sequence[Sequence[Agreement]]) -> None:
    console = Console(highlight=False)
    if not summaries:
        console.print("The model has no chunking stage.")
    for stage, (summary, compared) in enumerate(zip(summaries, agreements, strict=True)):
        console.print(
            f"stage {stage}: {summary.num_chunks:,} chunks of {summary.bytes_per_chunk:.2f} bytes "
            f"(median {summary.median_length:g}, longest {summary.max_length:,})"
        )
        for line in terminal.histogram(summary, min(console.width, 80)):
            console.print(line)
        table = Table("boundaries of", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for heading in ("count", "precision", "by chance", "recall", "F1"):
            table.add_column(heading, justify="right")
        for item in compared:
            figures = (item.precision, item.chance_precision, item.recall, item.f1)
            table.add_row(item.reference, f"{item.num_reference:,}", *(f"{value:.3f}" for value in figures))
        console.print(table)
