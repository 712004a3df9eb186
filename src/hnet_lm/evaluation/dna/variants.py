"""Variants: how much likelier, or less likely, a model finds a stretch of DNA once it is changed.

    log-likelihood ratio = log p(flank, alternative, flank) - log p(flank, reference, flank)

Below 0: the model expects the reference. The scorer decides on strands: give one of `BothStrands` for their mean.
Variants come from VCF, or from a table with tabs whose first line names the columns chrom, pos, ref and alt (position
from 1, as in VCF).
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hnet_lm.data.files import READ_ERRORS, open_stream
from hnet_lm.errors import DataError
from hnet_lm.evaluation.dna.reference import Reference
from hnet_lm.evaluation.scorer import Passage, Scorer

FLANK = 1000
COLUMNS = ("chrom", "pos", "ref", "alt")
BASES = re.compile(r"[ACGTUNRYSWKMBDHV]+")


@dataclass(frozen=True)
class Variant:
    """`reference` at `position` (counted from 1) becomes `alternative`; `line` is where the file says so."""

    sequence: str
    position: int
    reference: str
    alternative: str
    line: int


@dataclass(frozen=True)
class VariantFile:
    """The variants of a file; alleles that are no bases (`<DEL>`, `*`, `.`) are counted and left out."""

    variants: tuple[Variant, ...]
    num_symbolic: int


@dataclass(frozen=True)
class VariantScore:
    """Log-probabilities in nats, of the whole stretch with its flanks."""

    variant: Variant
    reference_logprob: float
    alternative_logprob: float

    @property
    def log_ratio(self) -> float:
        return self.alternative_logprob - self.reference_logprob


def read_variants(path: str | Path) -> VariantFile:
    """The variants of a VCF or tab-separated file, one for each alternative allele. Raises DataError with the line."""
    variants: list[Variant] = []
    num_symbolic = 0
    columns: dict[str, int] | None = None
    try:
        with open_stream(str(path)) as stream:
            for number, line in enumerate(stream, start=1):
                text = line.decode("utf-8", "replace").rstrip("\r\n")
                if not text or text.startswith("##"):
                    continue
                where = f"{path}, line {number}"
                if columns is None:
                    columns = _columns(text, where)
                    continue
                sequence, position, reference, alternatives = _fields(text, columns, where)
                for alternative in alternatives.split(","):
                    if BASES.fullmatch(alternative):
                        variants.append(Variant(sequence, position, reference, alternative, number))
                    else:
                        num_symbolic += 1
    except READ_ERRORS as error:
        raise DataError(f"{path}: cannot be read: {error}") from error
    return VariantFile(tuple(variants), num_symbolic)


def score_variants(
    scorer: Scorer, reference: Reference, variants: Sequence[Variant], *, flank: int = FLANK
) -> list[VariantScore]:
    """Score every variant between `flank` reference bases on each side, fewer at the ends of a region.

    Raises DataError for a variant outside the reference, or whose own reference bases are others.
    """
    stretches = [_stretches(reference, variant, flank) for variant in variants]
    scores = scorer.score(Passage(stretch) for pair in stretches for stretch in pair)
    return [VariantScore(variant, next(scores).logprob, next(scores).logprob) for variant in variants]


def _stretches(reference: Reference, variant: Variant, flank: int) -> tuple[bytes, bytes]:
    """The bases with the reference allele, and with the alternative."""
    start = variant.position - 1
    end = start + len(variant.reference)
    where = f"variant in line {variant.line}, {variant.sequence}:{variant.position}"
    region = reference.region(variant.sequence, start, end)
    if region is None:
        raise DataError(f"{where}: is not in the reference, which has {_summary(reference)}")
    begin, stop = start - region.start, end - region.start
    if region.bases[begin:stop] != variant.reference.encode():
        raise DataError(
            f"{where}: the reference has {region.bases[begin:stop].decode()} there, the variant says "
            f"{variant.reference}; are they of the same assembly?"
        )
    before, after = region.bases[max(begin - flank, 0) : begin], region.bases[stop : stop + flank]
    return before + variant.reference.encode() + after, before + variant.alternative.encode() + after


def _columns(header: str, where: str) -> dict[str, int]:
    names = [name.strip().lower() for name in header.lstrip("#").split("\t")]
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        raise DataError(f"{where}: the first line must name the columns {', '.join(COLUMNS)} with tabs between them")
    return {name: names.index(name) for name in COLUMNS}


def _fields(line: str, columns: dict[str, int], where: str) -> tuple[str, int, str, str]:
    fields = line.split("\t")
    if len(fields) <= max(columns.values()):
        raise DataError(f"{where}: has {len(fields)} columns, fewer than the first line names")
    sequence, position, reference, alternatives = (fields[columns[name]].strip() for name in COLUMNS)
    if not position.isdecimal() or int(position) < 1:
        raise DataError(f"{where}: the position must be a whole number from 1, got {position!r}")
    if not BASES.fullmatch(reference.upper()):
        raise DataError(f"{where}: the reference allele must be bases, got {reference!r}")
    return sequence, int(position), reference.upper(), alternatives.upper()


def _summary(reference: Reference) -> str:
    shown = [f"{region.sequence}:{region.start + 1}-{region.end}" for region in list(reference)[:3]]
    return ", ".join(shown) + (", ..." if len(list(reference)) > 3 else "")
