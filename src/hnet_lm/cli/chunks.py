"""`hnet-lm chunks`: where a model cuts a text, as a picture, a page, statistics, JSON or a genome browser's track."""

import io
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from rich.console import Console

from hnet_lm.cli.chunk_references import References
from hnet_lm.cli.chunk_tables import print_agreements, print_phases
from hnet_lm.cli.chunk_text import Text, TextOptions
from hnet_lm.cli.loading import PrecisionOption, load_model
from hnet_lm.cli.short_work import backends_for
from hnet_lm.cli.sources import SourceOptions, say
from hnet_lm.cli.terminal import print_json
from hnet_lm.data import open_byte_pairs
from hnet_lm.data.tokenized import TOKENIZER
from hnet_lm.errors import UserError
from hnet_lm.extras import import_leaf
from hnet_lm.genome import bed_lines, bedgraph_lines
from hnet_lm.inspect import (
    Agreement,
    Chunks,
    StageSummary,
    agreement,
    chunks,
    render_html,
    summarize,
    terminal,
)
from hnet_lm.inspect.codon_phase import CodonPhases, codon_phases
from hnet_lm.inspect.place import Place, read_annotations
from hnet_lm.outputs import Output, OutputError, tried, write_all


@dataclass(frozen=True)
class Command:
    """Show where a model cuts a text, stage by stage: in the terminal, or as --html, --png and so on."""

    model: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="MODEL")]
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    text: Annotated[tyro.conf.Positional[str | None], tyro.conf.arg(metavar="TEXT")] = None
    """The text; without it --file or standard input."""
    options: tyro.conf.OmitArgPrefixes[TextOptions] = field(default_factory=TextOptions)
    probabilities: bool = False
    """In the terminal, also draw a row of bars with the boundary probability of every position."""
    html: str | None = None
    """Write an HTML page that shows the probabilities under the pointer; - is standard output."""
    png: str | None = None
    """Write a picture of the beginning, with histograms of chunk lengths; .pdf and .svg work as well."""
    bedgraph: str | None = None
    """For DNA, write the boundary probability at every base as bedGraph for a genome browser (see --stage)."""
    bed_output: str | None = None
    """For DNA, write the chunks of all stages as BED: the name is the stage, the score the probability times 1000."""
    stage: int = 0
    """The stage of --bedgraph; stages after the first have values only where they could cut."""
    track_lines: bool = False
    """Begin --bedgraph and --bed-output with a track line, which genome browsers read and bedtools do not."""
    statistics: bool = False
    """Print chunk lengths, and the agreement of boundaries with references."""
    json: bool = False
    """Print all probabilities, chunk starts and figures as JSON."""
    device: str = "cpu"
    """Where the model runs: cpu, cuda, cuda:1 and so on."""
    precision: PrecisionOption = None
    sources: tyro.conf.OmitArgPrefixes[SourceOptions] = field(default_factory=SourceOptions)
    compare: tyro.conf.OmitArgPrefixes[References] = field(default_factory=References)

    def run(self) -> None:
        self.compare.check()
        wants_statistics = self.statistics or self.compare.is_asked_for
        figures = import_leaf("hnet_lm.figures", "plot", "--png") if self.png else None
        kinds = (("html", "htm"), figures.KINDS if figures else (), (), ())
        outputs = tried(*zip((self.html, self.png, self.bedgraph, self.bed_output), kinds, strict=True))
        if (self.json or wants_statistics) and any(output and output.is_standard_output for output in outputs):
            raise UserError("--json and --statistics print to standard output; write --html and --png to files")
        text = self._placed(self.options.read(self.text, self.sources))
        model = load_model(self.model, self.device, self.precision)
        if self.bedgraph is not None and not 0 <= self.stage < max(model.config.num_stages, 1):
            raise UserError(f"--stage {self.stage}: the model has {model.config.num_stages} stages, counted from 0")
        with backends_for(model, len(text.data)):
            found = _tokens(self.model, text.data) if model.config.reads_tokens else chunks(model, text.data)
        report = _Report(self.compare, text, found)
        if self.json:
            print_json(report.facts())
        elif wants_statistics:
            report.print()
        elif not any(outputs):
            _draw(found, self.probabilities, text.place)
        if text.part:
            say(f"{text.name}: {text.part} read; --max-bytes reads more")
        try:
            write_all(self._pictures(found, text, *outputs))
        except OutputError:
            if not self.json and not wants_statistics:
                _draw(found, self.probabilities, text.place)
            raise

    def _placed(self, text: Text) -> Text:
        """The text with its location in a genome, from its record, the options and --bed."""
        compare, own = self.compare, text.place
        sequence = compare.bed_sequence or (own.sequence if own else None)
        origin = compare.bed_origin if compare.bed_origin is not None else own.origin if own else 0
        if sequence is None and (self.bedgraph or self.bed_output):
            raise UserError("--bedgraph and --bed-output need the name of the sequence: give FASTA, or --bed-sequence")
        if own is None and sequence is None and compare.bed is None:
            return text
        annotations = read_annotations(compare.bed, sequence, len(text.data), origin) if compare.bed else ()
        return replace(text, place=Place(sequence or "", origin, annotations))

    def _pictures(
        self,
        found: Chunks,
        text: Text,
        html: Output | None,
        png: Output | None,
        bedgraph: Output | None,
        bed: Output | None,
    ) -> dict[Output, str | bytes]:
        contents: dict[Output, str | bytes] = {}
        if html is not None:
            contents[html] = render_html(found, text.title, text.place)
        if png is not None:
            picture = io.BytesIO()
            leaf = import_leaf("hnet_lm.inspect.png", "plot", "--png")
            missing = leaf.save_png(found, picture, text.title, kind=png.kind, place=text.place)
            contents[png] = picture.getvalue()
            if missing:
                note = import_leaf("hnet_lm.figures", "plot", "--png").boxes_note(missing)
                say(f"{png.given}: {note}")
        if (bedgraph or bed) and (place := text.place):
            if bedgraph is not None:
                stage = found.stages[self.stage]
                title = f"p of a boundary, stage {self.stage}" if self.track_lines else ""
                lines = bedgraph_lines(place.sequence, stage.offsets, stage.boundary_prob, title, place.origin)
                contents[bedgraph] = "".join(lines)
            if bed is not None:
                title = "chunks" if self.track_lines else ""
                contents[bed] = "".join(bed_lines(place.sequence, _intervals(found), title, place.origin))
        return contents


@dataclass(frozen=True)
class _Report:
    """The statistics of the chunks of a text."""

    compare: References
    text: Text
    found: Chunks

    @cached_property
    def summaries(self) -> list[StageSummary]:
        return summarize(self.found)

    @cached_property
    def agreements(self) -> list[list[Agreement]]:
        """For every stage the agreement with every reference."""
        place = self.text.place
        offsets = self.compare.offsets(
            self.text.data, self.text.is_whole, place.annotations if place else (), is_dna=place is not None
        )
        tolerance = self.compare.tolerance
        return [
            [agreement(stage, name, marked, tolerance) for name, marked in offsets.items()]
            for stage in self.found.stages
        ]

    @cached_property
    def phases(self) -> list[list[CodonPhases]]:
        """For every stage the codon phases of its cuts, if they are asked for."""
        if not self.compare.codon_phase or self.text.place is None:
            return [[] for _ in self.found.stages]
        genes = [gene for gene in self.text.place.annotations if gene.strand != "."]
        if not genes:
            raise UserError(f"--codon-phase: no interval of {self.compare.bed} in the text has a strand (column 6)")
        return [codon_phases(stage.starts, genes, len(self.text.data)) for stage in self.found.stages]

    def facts(self) -> dict[str, Any]:
        facts: dict[str, Any] = self.found.to_json() | {"is_whole_text": self.text.is_whole}
        if self.text.place is not None:
            facts |= {"sequence": self.text.place.sequence, "origin": self.text.place.origin}
        rows = zip(facts["stages"], self.summaries, self.agreements, self.phases, strict=True)
        for stage, summary, agreements, phases in rows:
            stage["summary"] = summary.to_json()
            stage["agreement"] = [item.to_json() for item in agreements]
            if phases:
                stage["codon_phases"] = [item.to_json() for item in phases]
        return facts

    def print(self) -> None:
        rows = list(zip(self.summaries, self.agreements, self.phases, strict=True))
        console = Console(highlight=False)
        if not self.text.is_whole:
            console.print(f"{self.text.part} counted", markup=False, soft_wrap=True)
        if not rows:
            console.print("The model has no chunking stage.")
        for stage, (summary, agreements, phases) in enumerate(rows):
            console.print(
                f"stage {stage}: {summary.num_chunks:,} chunks of {summary.bytes_per_chunk:.2f} bytes "
                f"(median {summary.median_length:g}, longest {summary.max_length:,})",
                soft_wrap=True,
            )
            for line in terminal.histogram(summary, min(console.width, 80), encoding=console.encoding):
                console.print(line)
            print_agreements(agreements, self.compare.tolerance)
            print_phases(phases)


def _intervals(found: Chunks) -> list[tuple[int, int, str, float]]:
    """Start, end, stage and probability of every chunk of every stage."""
    intervals = []
    for number, stage in enumerate(found.stages):
        probs = stage.prob_at_bytes()[stage.starts]
        ends = stage.starts + stage.lengths
        columns = (stage.starts.tolist(), ends.tolist(), probs.tolist())
        intervals += [(start, end, f"stage{number}", prob) for start, end, prob in zip(*columns, strict=True)]
    return intervals


def _tokens(source: str, data: bytes) -> Chunks:
    """The tokens that a model of tokens reads, drawn as the chunks of one stage."""
    tokenizer = Path(source) / TOKENIZER
    if not tokenizer.is_file():
        raise UserError(f"{source}: the model reads tokens; put its {TOKENIZER} into its folder to see them")
    say(f"{source}: the model reads tokens and has no chunks; shown are its tokens, as stage 0")
    starts = open_byte_pairs(str(tokenizer)).encode(data).starts  # several if tokens are parts of one character
    is_start = np.zeros(len(data), dtype=bool)
    is_start[starts[starts < len(data)]] = True
    return Chunks.from_positions(data, [(is_start.astype(np.float32), is_start)])


def _draw(found: Chunks, probabilities: bool, place: Place | None) -> None:
    console = Console(highlight=False)
    for line in terminal.render(found, console.width, probabilities, console.encoding, place):
        console.print(line, soft_wrap=True)
