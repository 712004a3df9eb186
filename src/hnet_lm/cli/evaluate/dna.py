"""`hnet-lm evaluate dna`."""

from dataclasses import dataclass, field
from typing import Annotated, Any

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.cli.sources import say
from hnet_lm.data.samples import SAMPLE_PREFIX, sample_path
from hnet_lm.errors import DataError, UserError
from hnet_lm.evaluation import Evaluation, Scorer, bits_per_byte
from hnet_lm.evaluation.dna import BothStrands, Reference, VariantFile, score_variants, score_windows
from hnet_lm.inputs import STANDARD_INPUT


@dataclass(frozen=True)
class EvaluateDna(Evaluation):
    """Perplexity per base of FASTA, or a table of variants or windows; log-probabilities are means of both strands."""

    model: Model
    """A saved directory, or hf:owner/name."""
    fasta: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FASTA")]
    """The sequences; the reference, for --variants. A record NAME:START-END is that stretch. - is standard input."""
    variants: str | None = None
    """VCF, or a table with tabs and the columns chrom, pos, ref, alt: print each variant's log-likelihood ratio. - is
    standard input. Variants that do not fit the reference are left out and counted (see --on-error)."""
    flank: int = 1000
    """Bases of the reference on each side of a variant."""
    score_windows: int | None = None
    """Print the log-likelihood ratio of every window of so many bases, against the frequencies of the bases."""
    score_stride: int | None = None
    """How far the windows are apart; their own length by default."""
    one_strand: bool = False
    """Read the sequences as they are, and not the other strand as well."""
    reading: tyro.conf.OmitArgPrefixes[Reading] = field(default_factory=Reading)

    def run(self) -> None:
        if self.variants is not None and self.score_windows is not None:
            raise UserError("--variants and --score-windows exclude each other")
        if self.variants == self.fasta == STANDARD_INPUT:
            raise UserError("only one of FASTA and --variants can be standard input")
        if self.flank < 0:
            raise UserError(f"--flank must be 0 or more, got {self.flank}")
        byte_scorer = self.reading.scorer(self.model)
        scorer = byte_scorer if self.one_strand else BothStrands(byte_scorer)
        if self.variants is not None:
            self._print_variants(scorer, self.variants)
        elif self.score_windows is not None:
            self._print_windows(scorer, self.score_windows)
        else:
            sequences = documents(self.fasta, None, self.reading, default_format="fasta")
            found = bits_per_byte(scorer, {self.fasta: sequences})
            print(f"{found.num_bytes:,} bases, perplexity {2**found.value:.5f}, {found.value:.5f} bits per base")

    def _print_variants(self, scorer: Scorer, path: str) -> None:
        report = self.reading.sources.report("skip")
        variants = VariantFile(path, report)
        num_printed = 0
        for score in score_variants(scorer, self._reference(), variants, flank=self.flank, report=report):
            if num_printed == 0:
                _print_tabs("chrom", "pos", "ref", "alt", "reference_logprob", "alternative_logprob", "log_ratio")
            variant = score.variant
            place = (variant.sequence, variant.position, variant.reference, variant.alternative)
            _print_tabs(*place, score.reference_logprob, score.alternative_logprob, score.log_ratio)
            num_printed += 1
        if variants.num_symbolic:
            say(f"{path}: alleles left out because they are not bases: {variants.num_symbolic:,}")
        if report.num_skipped:
            say(f"{path}: variants left out: {report.num_skipped:,}")
        if not num_printed:
            why = "" if report.first is None else f"; the first was left out: {report.first}"
            raise DataError(f"{path}: has no variant that could be scored{why}")

    def _print_windows(self, scorer: Scorer, window: int) -> None:
        stride = window if self.score_stride is None else self.score_stride
        scores = score_windows(scorer, self._reference(), window=window, stride=stride)
        _print_tabs("chrom", "start", "end", "logprob", "log_ratio", "log_ratio_per_base")
        for found in scores:
            place = (found.sequence, found.start, found.end)
            _print_tabs(*place, found.logprob, found.log_ratio, found.log_ratio_per_base)

    def _reference(self) -> Reference:
        is_sample = self.fasta.startswith(SAMPLE_PREFIX)
        return Reference.read(
            sample_path(self.fasta.removeprefix(SAMPLE_PREFIX), "validation") if is_sample else self.fasta
        )


def _print_tabs(*values: Any) -> None:
    """One line, at once: a run that is stopped has printed what it knew."""
    print("\t".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values), flush=True)
