"""`hnet-lm chunks`: where a model cuts a text, as a picture, a page, figures or numbers."""

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console

from hnet_lm.cli.loading import load_model
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.cli.tables import print_table
from hnet_lm.cli.terminal import print_json, printable, typed_bytes
from hnet_lm.data import DataConfig, FastaConfig, documents, open_byte_pairs
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.errors import DataError, UserError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs import STANDARD_INPUT, read_bytes, read_text
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
from hnet_lm.outputs import Output, OutputError, tried, write_all


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
    """A file of text, FASTA, JSONL or any bytes, compressed or not; - for standard input; or sample:english (chinese,
    code, dna)."""
    document: int = 0
    """Which document of the file, counted from 0: a line of JSONL, of FASTA a stretch of --max-bytes bases."""
    max_bytes: int = 1_000_000
    """Look at no more than this many bytes, from the beginning."""
    probabilities: bool = False
    """In the terminal: a row of bars with the boundary probability of every position as well."""
    html: str | None = None
    """Write a page for the browser, with the probabilities under the pointer; - is standard output."""
    png: str | None = None
    """Write a picture of the beginning, and of the chunk lengths; .pdf and .svg are written as such."""
    statistics: bool = False
    """Print chunk lengths, and how the boundaries agree with spaces and with what else is asked for."""
    json: bool = False
    """Print all probabilities, chunk starts and figures as JSON."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)
    compare: tyro.conf.OmitArgPrefixes[Compare] = field(default_factory=Compare)

    def run(self) -> None:
        for name, value, least in (("max-bytes", self.max_bytes, 1), ("document", self.document, 0)):
            if value < least:
                raise UserError(f"--{name} must be {least} or more, got {value}")
        wants_statistics = self.statistics or self.compare.is_asked_for
        figures = import_leaf("hnet_lm.figures", "plot", "--png") if self.png else None
        html, png = tried((self.html, ("html", "htm")), (self.png, figures.KINDS if figures else ()))
        if (self.json or wants_statistics) and any(output and output.is_standard_output for output in (html, png)):
            raise UserError("--json and --statistics print to standard output; write --html and --png to files")
        text = self._read()
        model = load_model(self.model, self.device)
        found = _tokens(self.model, text.data) if model.config.reads_tokens else chunks(model, text.data)
        if self.json:
            print_json(self._facts(found) | {"is_whole_text": text.is_whole})
        elif wants_statistics:
            _print_statistics(text, summarize(found), self._agreements(found))
        elif html is None and png is None:
            _draw(found, self.probabilities)
        if text.part:
            say(f"{text.name}: {text.part} looked at; --max-bytes looks at more")
        try:
            write_all(self._pictures(found, text.title, html, png))
        except OutputError:
            if not self.json and not wants_statistics:
                _draw(found, self.probabilities)
            raise

    def _pictures(
        self, found: Chunks, title: str, html: Output | None, png: Output | None
    ) -> dict[Output, str | bytes]:
        contents: dict[Output, str | bytes] = {}
        if html is not None:
            contents[html] = render_html(found, title)
        if png is not None:
            picture = io.BytesIO()
            missing = import_leaf("hnet_lm.inspect.png", "plot", "--png").save_png(found, picture, title, kind=png.kind)
            contents[png] = picture.getvalue()
            if missing:
                note = import_leaf("hnet_lm.figures", "plot", "--png").boxes_note(missing)
                say(f"{png.given}: {note}")
        return contents

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

    def _read(self) -> "_Text":
        if self.text is not None:
            if self.file is not None:
                raise UserError("a text and --file are given; leave out one")
            return self._first(typed_bytes(self.text), "text")
        if self.file is None:
            if sys.stdin.isatty():
                raise UserError("no text: give one as an argument, by --file or on standard input")
            return self._first(read_bytes(STANDARD_INPUT), "standard input")
        fasta = FastaConfig(n_runs="keep", window=self.max_bytes)  # so that offsets are the record's own
        source = self.sources.source(self.file, "train", fasta=fasta)
        found = documents(DataConfig((source,)), report=self.sources.report())
        document = next(islice(found, self.document, None), None)
        if document is None:
            raise DataError(f"{self.file}: has no document {self.document} (they are counted from 0)")
        name = printable(self.file)
        if source.format == "fasta" and len(document.data) == self.max_bytes:
            return _Text(document.data, name, f"only a stretch of {self.max_bytes:,} bases is")
        return self._first(document.data, name)

    def _first(self, data: bytes, name: str) -> "_Text":
        """As much of the text as is looked at."""
        if len(data) <= self.max_bytes:
            return _Text(data, name, "")
        return _Text(data[: self.max_bytes], name, f"only the first {self.max_bytes:,} of {len(data):,} bytes are")


class _Text(NamedTuple):
    """A text, or its beginning; `part` says which, and is empty for the whole."""

    data: bytes
    name: str
    part: str

    @property
    def is_whole(self) -> bool:
        return not self.part

    @property
    def title(self) -> str:
        return self.name if self.is_whole else f"{self.name} ({len(self.data):,} bytes of it)"


def _tokens(source: str, data: bytes) -> Chunks:
    """What a model of tokens reads, drawn as the chunks of one stage."""
    tokenizer = Path(source) / TOKENIZER
    if not tokenizer.is_file():
        raise UserError(f"{source}: the model reads tokens; put their {TOKENIZER} into its folder to see them")
    say(f"{source}: the model reads tokens and has no chunks; shown are its tokens, as stage 0")
    starts = open_byte_pairs(str(tokenizer)).encode(data).starts  # several where tokens are parts of one character
    is_start = np.zeros(len(data), dtype=bool)
    is_start[starts[starts < len(data)]] = True
    return Chunks.from_positions(data, [(is_start.astype(np.float32), is_start)])


def _draw(found: Chunks, probabilities: bool) -> None:
    console = Console(highlight=False)
    for line in terminal.render(found, console.width, probabilities, console.encoding):
        console.print(line, soft_wrap=True)


def _print_statistics(
    text: _Text, summaries: Sequence[StageSummary], agreements: Sequence[Sequence[Agreement]]
) -> None:
    console = Console(highlight=False)
    if not text.is_whole:
        console.print(f"{text.part} counted", markup=False, soft_wrap=True)
    if not summaries:
        console.print("The model has no chunking stage.")
    for stage, (summary, compared) in enumerate(zip(summaries, agreements, strict=True)):
        console.print(
            f"stage {stage}: {summary.num_chunks:,} chunks of {summary.bytes_per_chunk:.2f} bytes "
            f"(median {summary.median_length:g}, longest {summary.max_length:,})",
            soft_wrap=True,
        )
        for line in terminal.histogram(summary, min(console.width, 80), encoding=console.encoding):
            console.print(line)
        rows = [
            [
                item.reference,
                f"{item.num_reference:,}",
                *(f"{value:.3f}" for value in (item.precision, item.chance_precision, item.recall, item.f1)),
            ]
            for item in compared
        ]
        print_table(("boundaries of", "count", "precision", "by chance", "recall", "F1"), rows)
