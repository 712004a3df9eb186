"""`hnet-lm evaluate dna`."""

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.cli.evaluate.reading import Model, Reading, documents
from hnet_lm.errors import UserError
from hnet_lm.evaluation import Scorer, bits_per_byte
from hnet_lm.evaluation.dna import BothStrands, Reference, read_variants, score_variants, score_windows


@dataclass(frozen=True)
class EvaluateDna:
    """Perplexity per base of FASTA, or a table of variants or windows; log-probabilities are means of both strands."""

    model: Model
    """A saved directory, or hf:owner/name."""
    fasta: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="FASTA")]
    """The sequences; the reference, for --variants. A record NAME:START-END is that stretch."""
    variants: Path | None = None
    """VCF, or a table with tabs and the columns chrom, pos, ref, alt: print each variant's log-likelihood ratio."""
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
        byte_scorer = self.reading.scorer(self.model)
        scorer = byte_scorer if self.one_strand else BothStrands(byte_scorer)
        if self.variants is not None:
            self._print_variants(scorer, self.variants)
        elif self.score_windows is not None:
            self._print_windows(scorer, self.score_windows)
        else:
            found = bits_per_byte(scorer, {self.fasta: documents(self.fasta, None)})
            print(f"{found.num_bytes:,} bases, perplexity {2**found.value:.5f}, {found.value:.5f} bits per base")

    def _print_variants(self, scorer: Scorer, path: Path) -> None:
        file = read_variants(path)
        scores = score_variants(scorer, Reference.read(self.fasta), file.variants, flank=self.flank)
        _print_tabs("chrom", "pos", "ref", "alt", "reference_logprob", "alternative_logprob", "log_ratio")
        for score in scores:
            variant = score.variant
            place = (variant.sequence, variant.position, variant.reference, variant.alternative)
            _print_tabs(*place, score.reference_logprob, score.alternative_logprob, score.log_ratio)
        if file.num_symbolic:
            print(f"{path}: {file.num_symbolic} alleles that are not bases are left out", file=sys.stderr)

    def _print_windows(self, scorer: Scorer, window: int) -> None:
        stride = window if self.score_stride is None else self.score_stride
        scores = score_windows(scorer, Reference.read(self.fasta), window=window, stride=stride)
        _print_tabs("chrom", "start", "end", "logprob", "log_ratio", "log_ratio_per_base")
        for found in scores:
            place = (found.sequence, found.start, found.end)
            _print_tabs(*place, found.logprob, found.log_ratio, found.log_ratio_per_base)


def _print_tabs(*values: Any) -> None:
    print("\t".join(f"{value:.6f}" if isinstance(value, float) else str(value) for value in values))
