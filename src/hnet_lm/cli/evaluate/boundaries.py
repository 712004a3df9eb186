"""`hnet-lm evaluate boundaries`."""

import io
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import chain

import tyro

from hnet_lm.cli.chunk_references import References
from hnet_lm.cli.chunk_tables import print_agreements, print_phases
from hnet_lm.cli.evaluate.bits_per_byte import Files, begun, named_files
from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.sources import say
from hnet_lm.cli.tables import percent, print_table, rounded
from hnet_lm.cli.terminal import print_json
from hnet_lm.data.files import paths_of
from hnet_lm.data.formats import format_of
from hnet_lm.data.formats.fasta import OUTSIDE_N_RUNS
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Evaluation, PassageScore, bits_per_byte
from hnet_lm.evaluation.boundary_page import Facts, boundary_section
from hnet_lm.evaluation.boundary_report import BoundaryReport
from hnet_lm.evaluation.stability import StageStability, stability
from hnet_lm.extras import import_leaf
from hnet_lm.genome import BedInterval, read_bed, read_records
from hnet_lm.inspect import chunks, render_html
from hnet_lm.inspect.place import annotations_in
from hnet_lm.outputs import Output, tried, write_all

Origin = tuple[str, int]
"""The sequence of a text, and the position of its first base."""

MAX_SHOWN = 24
PAGE_BYTES = 20_000
"""Of the first document, which the page shows."""


@dataclass(frozen=True)
class EvaluateBoundaries(Evaluation):
    """What the cuts of a model mean: boundary enrichment, agreement with references, common chunks, stability."""

    model: Model
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    files: Files
    """Text, JSONL, parquet, FASTA or any bytes, globs, or sample:english (its held-out part); NAME= names a domain."""
    max_bytes: int | None = None
    """Stop each file after the document with which it has given so many bytes; a FASTA record is cut there."""
    stability_texts: int = 8
    """On how many documents of each domain stability is measured, on the first 2048 bytes of each."""
    html: str | None = None
    """Write a page for the browser: the beginning of the first document in chunks, and all figures; - is standard
    output."""
    png: str | None = None
    """Write a figure; .pdf and .svg are written as such."""
    json: bool = False
    """Print JSON instead of tables."""
    compare: tyro.conf.OmitArgPrefixes[References] = field(default_factory=References)
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if not self.files:
            raise UserError("evaluate boundaries needs a file of documents, or sample:english")
        require_at_least(1, max_bytes=self.max_bytes)
        require_at_least(0, stability_texts=self.stability_texts)
        self.compare.check()
        if self.compare.bed_sequence is not None or self.compare.bed_origin is not None:
            raise UserError("--bed-sequence and --bed-origin go with one text; here the records of FASTA have names")
        figures = import_leaf("hnet_lm.figures", "plot", "--png") if self.png else None
        html, png = tried(*zip((self.html, self.png), (("html", "htm"), figures.KINDS if figures else ()), strict=True))
        if self.json and any(output and output.is_standard_output for output in (html, png)):
            raise UserError("--json prints to standard output; write --html and --png to files")
        scorer = self.reading.scorer(self.model, unit_starts=True, byte_logprobs=True)
        if scorer.model.config.reads_tokens or not scorer.model.config.num_stages:
            raise UserError(
                f"{self.model}: the model learned no boundaries; it reads tokens, or has no stage that chunks"
            )
        intervals = [] if self.compare.bed is None else list(read_bed(self.compare.bed))
        annotations: deque[tuple[BedInterval, ...] | None] = deque()
        heads: dict[str, list[bytes]] = {}
        report, beginning = BoundaryReport(self.compare.tolerance), b""

        def texts(domain: str, documents: Iterable[tuple[bytes, Origin | None]]) -> Iterator[bytes]:
            nonlocal beginning
            for data, place in documents:
                if not data:
                    continue
                found = None if place is None else annotations_in(intervals, place[0], len(data), place[1])
                annotations.append(found)
                beginning = beginning or data[:PAGE_BYTES]
                if len(heads.setdefault(domain, [])) < self.stability_texts:
                    heads[domain].append(data)
                yield data

        def on_document(domain: str, data: bytes, score: PassageScore) -> None:
            found = annotations.popleft()
            references = self.compare.offsets(data, True, found or (), is_dna=found is not None)
            genes = [gene for gene in found or () if gene.strand != "."] if self.compare.codon_phase else []
            report.add(domain, data, score, references, genes)

        vocab_size = scorer.model.config.vocab_size
        domains = {
            domain: texts(domain, chain.from_iterable([begun(self._texts(path, vocab_size)) for path in paths]))
            for domain, paths in named_files(self.files).items()
        }
        measured = bits_per_byte(scorer, domains, on_document)
        stable = {domain: stability(scorer.model, found) for domain, found in heads.items()}
        facts = report.to_json()
        for domain, stages in facts.items():
            for stage, of_stage in zip(stages, stable[domain], strict=True):
                stage["stability"] = of_stage.to_json()
        if self.json:
            print_json({"bits_per_byte": measured.value, "tolerance": self.compare.tolerance, "domains": facts})
        elif not any(output and output.is_standard_output for output in (html, png)):
            _print(report, stable)
        contents: dict[Output, str | bytes] = {}
        if html is not None:
            title = f"Chunks and boundaries of {self.model}"
            contents[html] = render_html(chunks(scorer.model, beginning), title, boundaries=boundary_section(facts))
        if png is not None:
            contents[png] = _figure(facts, png)
        write_all(contents)

    def _texts(self, path: str, vocab_size: int) -> Iterator[tuple[bytes, Origin | None]]:
        """Documents; of FASTA the stretches of each record between runs of N, with their sequence and origin."""
        source = self.reading.sources.source(path, "validation")
        paths = paths_of(source)
        if format_of(paths[0], source) != "fasta":
            for data in documents(path, self.max_bytes, self.reading, vocab_size=vocab_size):
                yield data, None
            return
        for record in (record for file in paths for record in read_records(file)):
            for match in OUTSIDE_N_RUNS.finditer(record.bases[: self.max_bytes]):
                yield match[0], (record.sequence, record.start + match.start())


def _figure(facts: Facts, png: Output) -> bytes:
    picture = io.BytesIO()
    leaf = import_leaf("hnet_lm.evaluation.boundary_figure", "plot", "--png")
    if missing := leaf.save_figure(facts, picture, png.kind):
        say(f"{png.given}: {import_leaf('hnet_lm.figures', 'plot', '--png').boxes_note(missing)}")
    return picture.getvalue()


def _print(report: BoundaryReport, stable: dict[str, list[StageStability]]) -> None:
    rows, stability_rows = [], []
    for domain, found in report.domains.items():
        for number, (stage, enriched) in enumerate(zip(found.stages, found.enrichments, strict=True)):
            lengths = stage.boundaries
            null = f"{enriched.null_mean:.3f} ({enriched.null_low:.3f}-{enriched.null_high:.3f})"
            figures = (rounded(lengths.bytes_per_chunk, 2), rounded(lengths.length_sd, 2), rounded(enriched.value, 3))
            rows.append(
                [domain, str(number), f"{lengths.num_chunks:,}", *figures, null, rounded(enriched.first_byte, 3)]
            )
            of_stage = stable[domain][number]
            stability_rows.append(
                [domain, str(number), rounded(of_stage.shift.f1, 3), rounded(of_stage.changed_byte.f1, 3)]
            )
    print_table(("domain", "stage", "chunks", "bytes/chunk", "sd", "B", "B by chance (95 %)", "B of first byte"), rows)
    for domain, found in report.domains.items():
        for number, stage in enumerate(found.stages):
            if stage.agreements:
                print(f"{domain}, stage {number}")
                print_agreements(list(stage.agreements.values()), report.tolerance)
            print_phases(list(stage.phases.values()))
            total = max(stage.boundaries.num_chunks, 1)
            common = [f"{_shown(text)} {percent(count / total)} %" for text, count in stage.common()]
            print(f"{domain}, stage {number}, most often: {', '.join(common)}")
    print_table(("domain", "stage", "F1 of cuts after a shift", "F1 after a changed byte"), stability_rows)


def _shown(text: bytes) -> str:
    """In quotes, its beginning if it is long; bytes that are not UTF-8 as in `\\xe5`."""
    try:
        shown = text.decode("utf-8")
    except UnicodeDecodeError:
        return repr(text[:MAX_SHOWN]).removeprefix("b") + ("..." if len(text) > MAX_SHOWN else "")
    return repr(shown[:MAX_SHOWN]) + ("..." if len(shown) > MAX_SHOWN else "")
