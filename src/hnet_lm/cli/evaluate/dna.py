"""`hnet-lm evaluate dna`."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.options import OutputPath, require_at_least
from hnet_lm.cli.sources import say
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.cli.terminal import is_unicode, json_text, print_json
from hnet_lm.data.formats.fasta import OUTSIDE_N_RUNS
from hnet_lm.data.samples import SAMPLE_PREFIX, sample_path
from hnet_lm.errors import DataError, UserError
from hnet_lm.evaluation import Evaluation, Scorer, bits_per_byte
from hnet_lm.evaluation.dna import (
    BothStrands,
    Reference,
    ScoredVcf,
    VariantFile,
    kmer_baselines,
    score_variants,
    score_windows,
)
from hnet_lm.evaluation.dna.kmers import MAX_ORDER
from hnet_lm.genome import Region, read_records, stretch
from hnet_lm.inputs import STANDARD_INPUT
from hnet_lm.outputs import Output, tried

Write = Callable[[str], object]

VARIANT_COLUMNS = ("chrom", "pos", "id", "ref", "alt", "reference_logprob", "alternative_logprob", "log_ratio")
WINDOW_COLUMNS = ("chrom", "start", "end", "logprob", "log_ratio", "log_ratio_per_base")


@dataclass(frozen=True)
class EvaluateDna(Evaluation):
    """Perplexity per base of FASTA, or a table of variants or windows; log-probabilities are means of both strands."""

    model: Model
    """A saved directory, a name of `hnet-lm models`, or hf:owner/name."""
    fasta: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FASTA")]
    """The sequences; the reference, for --variants. A record NAME:START-END is that stretch. - is standard input."""
    region: str | None = None
    """Only this sequence or stretch, such as chr20:59,000,001-59,100,000: for perplexity and windows."""
    max_bytes: int | None = None
    """For perplexity: stop after the sequence with which so many bases are read."""
    kmers: Annotated[tuple[int, ...], tyro.conf.arg(metavar="ORDER ...")] = ()
    """Beside perplexity, what the frequencies of k-mers say: context models of these orders, 0 to 12."""
    kmer_train: str | None = None
    """FASTA that the context models have seen before; without it they know only the bases before each."""
    variants: str | None = None
    """VCF, or a table with tabs and the columns chrom, pos, ref, alt: each variant's log-likelihood ratio. - is
    standard input. Variants that do not fit the reference are left out and counted (see --on-error)."""
    flank: int = 1000
    """Bases of the reference on each side of a variant."""
    score_windows: int | None = None
    """The log-likelihood ratio of every window of so many bases, against the frequencies of the bases."""
    score_stride: int | None = None
    """How far the windows are apart; their own length by default."""
    output: OutputPath = None
    """Where variants or windows are written: as a .vcf, the VCF that was given, whole, with the scores in INFO; with
    another ending, the table that is printed otherwise."""
    one_strand: bool = False
    """Read the sequences as they are, and not the other strand as well."""
    json: bool = False
    """Print JSON instead: of perplexity one object, of variants and windows one per line."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        self._check()
        (output,) = tried((self.output, ()))
        byte_scorer = self.reading.scorer(self.model)
        scorer = byte_scorer if self.one_strand else BothStrands(byte_scorer)
        if self.variants is not None:
            self._score_variants(scorer, self.variants, output)
        elif self.score_windows is not None:
            self._score_windows(scorer, self.score_windows, output)
        else:
            self._measure_perplexity(scorer)

    def _check(self) -> None:
        if self.variants is not None and self.score_windows is not None:
            raise UserError("--variants and --score-windows exclude each other")
        if self.variants == self.fasta == STANDARD_INPUT:
            raise UserError("only one of FASTA and --variants can be standard input")
        require_at_least(0, flank=self.flank)
        require_at_least(1, max_bytes=self.max_bytes)
        is_table = self.variants is not None or self.score_windows is not None
        if self.output is not None and not is_table:
            raise UserError("--output goes with --variants or --score-windows")
        if is_table and (self.kmers or self.max_bytes is not None):
            raise UserError("--kmers and --max-bytes go with perplexity, without --variants and --score-windows")
        if self.kmer_train is not None and not self.kmers:
            raise UserError("--kmer-train goes with --kmers")
        if self.variants is not None and self.region is not None:
            raise UserError("--region goes with perplexity and --score-windows; variants name their own places")
        for order in self.kmers:
            if not 0 <= order <= MAX_ORDER:
                raise UserError(f"--kmers takes orders from 0 to {MAX_ORDER}, got {order}")

    def _measure_perplexity(self, scorer: Scorer) -> None:
        read: list[bytes] = []

        def sequences() -> Iterator[bytes]:
            for bases in self._sequences():
                if self.kmers:
                    read.append(bases)
                yield bases

        found = bits_per_byte(scorer, {self.region or self.fasta: sequences()})
        train = (
            [] if self.kmer_train is None else documents(self.kmer_train, None, self.reading, default_format="fasta")
        )
        baselines = list(kmer_baselines(read, self.kmers, train=train, both_strands=not self.one_strand))
        if self.json:
            facts = [
                {
                    "order": b.order,
                    "num_bases": b.num_bases,
                    "perplexity": b.perplexity,
                    "bits_per_base": b.bits_per_base,
                }
                for b in baselines
            ]
            print_json(found.to_json() | {"perplexity": 2**found.value, "kmers": facts})
            return
        print(f"{found.num_bytes:,} bases, perplexity {2**found.value:.5f}, {found.value:.5f} bits per base")
        if baselines:
            rows = [
                [f"k-mers of order {b.order}", rounded(b.perplexity, 5), rounded(b.bits_per_base, 5)] for b in baselines
            ]
            print_table(
                ("model", "perplexity", "bits/base"),
                [["this one", f"{2**found.value:.5f}", f"{found.value:.5f}"], *rows],
            )
            if left_out := found.num_bytes - baselines[0].num_bases:
                say(f"k-mers: bases that are not A, C, G or T, which they leave out: {left_out:,}")

    def _sequences(self) -> Iterator[bytes]:
        """Without their runs of N."""
        if self.region is None:
            yield from documents(self.fasta, self.max_bytes, self.reading, default_format="fasta")
            return
        bases = stretch(read_records(self._path), self.region, self.fasta).bases[: self.max_bytes]
        yield from OUTSIDE_N_RUNS.findall(bases)

    def _score_variants(self, scorer: Scorer, path: str, output: Output | None) -> None:
        report = self.reading.sources.report("skip")
        num_scored = 0
        with _lines_to(output) as write:
            vcf = ScoredVcf(path, write) if output is not None and output.kind == "vcf" else None
            variants = VariantFile(path, report, None if vcf is None else vcf.on_line)
            scores = score_variants(scorer, Reference.read(self._path), variants, flank=self.flank, report=report)
            for score in scores:
                if vcf is not None:
                    vcf.add(score)
                else:
                    v = score.variant
                    place = (v.sequence, v.position, v.identifier, v.reference, v.alternative)
                    ratio = (score.reference_logprob, score.alternative_logprob, score.log_ratio)
                    self._write_row(write, VARIANT_COLUMNS, (*place, *ratio), is_first=num_scored == 0)
                num_scored += 1
            if not num_scored:
                why = "" if report.first is None else f"; the first was left out: {report.first}"
                raise DataError(f"{path}: has no variant that could be scored{why}")
            if vcf is not None:
                vcf.finish()
        if variants.num_symbolic:
            say(f"{path}: alleles left out because they are not bases: {variants.num_symbolic:,}")
        if report.num_skipped:
            say(f"{path}: variants left out: {report.num_skipped:,}")
        if output is not None and not output.is_standard_output:
            say(f"{output.given}: alleles scored: {num_scored:,}")

    def _score_windows(self, scorer: Scorer, window: int, output: Output | None) -> None:
        stride = window if self.score_stride is None else self.score_stride
        regions = Reference(self._regions())
        with _lines_to(output) as write:
            for number, found in enumerate(score_windows(scorer, regions, window=window, stride=stride)):
                place = (found.sequence, found.start, found.end)
                row = (*place, found.logprob, found.log_ratio, found.log_ratio_per_base)
                self._write_row(write, WINDOW_COLUMNS, row, is_first=number == 0)

    def _regions(self) -> Iterator[Region]:
        records = read_records(self._path)
        return records if self.region is None else iter([stretch(records, self.region, self.fasta)])

    @property
    def _path(self) -> str:
        is_sample = self.fasta.startswith(SAMPLE_PREFIX)
        return sample_path(self.fasta.removeprefix(SAMPLE_PREFIX), "validation") if is_sample else self.fasta

    def _write_row(self, write: Write, columns: tuple[str, ...], values: tuple[Any, ...], *, is_first: bool) -> None:
        if self.json:
            write(json_text(dict(zip(columns, values, strict=True)), ascii_only=not is_unicode()) + "\n")
            return
        if is_first:
            write("\t".join(columns) + "\n")
        write("\t".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values) + "\n")


@contextmanager
def _lines_to(output: Output | None) -> Iterator[Write]:
    """Standard output gets each line at once: a run that is stopped has printed what it knew."""
    if output is None or output.is_standard_output:
        yield lambda line: print(line, end="", flush=True)
        return
    with output.stream() as file:
        yield lambda line: file.write(line.encode("utf-8", "surrogateescape"))
