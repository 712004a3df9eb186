"""Variants: how a change to a DNA sequence changes its likelihood under a model.

    log-likelihood ratio = log p(flank, alternative, flank) - log p(flank, reference, flank)

Below 0, the model expects the reference. The scorer decides on strands: use `BothStrands` for their mean. Variants come
from VCF, or from a tab-separated table whose first line names the columns chrom, pos, ref and alt (positions from 1, as
in VCF).
"""

import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hnet_lm.data.error_report import raise_error
from hnet_lm.data.parts import Report
from hnet_lm.errors import DataError
from hnet_lm.evaluation.scorer import Passage, Scorer
from hnet_lm.genome import Reference
from hnet_lm.inputs import decoded_lines, opened

FLANK = 1000
SHOWN_BASES = 20  # of a long allele, in a message
COLUMNS = ("chrom", "pos", "ref", "alt")
BASES = re.compile(r"[ACGTUNRYSWKMBDHV]+")
POSITION = re.compile(r"[0-9]{1,15}")
IDENTIFIER = "id"

OnLine = Callable[[int, str], None]


@dataclass(frozen=True)
class Variant:
    """`reference` at `position` (counted from 1) becomes `alternative`; `line` is its line in the file."""

    sequence: str
    position: int
    reference: str
    alternative: str
    line: int
    identifier: str = "."
    """The file's ID, such as an rs number; `.` for none."""
    allele: int = 0
    """Which of the line's alternative alleles, counted from 0."""


@dataclass(frozen=True)
class VariantScore:
    """Log-probabilities in nats, of the whole sequence with its flanks."""

    variant: Variant
    reference_logprob: float
    alternative_logprob: float

    @property
    def log_ratio(self) -> float:
        return self.alternative_logprob - self.reference_logprob


class VariantFile:
    """The variants of a VCF or tab-separated file, one for each alternative allele, read as they are asked for.

    Alleles that are not bases (`<DEL>`, `*`, `.`) are left out and counted in `num_symbolic`. A line that is not a
    variant is reported; a file without the columns raises DataError. `on_line(number, line)` is called for every line
    of the file, before its variants are read; bytes that are not UTF-8 are surrogates in it ("surrogateescape").
    """

    def __init__(self, path: str | Path, report: Report = raise_error, on_line: OnLine | None = None) -> None:
        self.path = path
        self.num_symbolic = 0
        self._report = report
        self._on_line = on_line

    def __iter__(self) -> Iterator[Variant]:
        columns: dict[str, int] | None = None
        first_line = None
        with opened(self.path) as stream:
            for number, line in enumerate(decoded_lines(stream, str(self.path), "surrogateescape"), start=1):
                if self._on_line is not None:
                    self._on_line(number, line)
                if not line.strip() or line.startswith("##"):
                    continue
                if columns is None:
                    columns = _columns(line)
                    first_line = first_line or number
                    if columns is None and not line.startswith("#"):
                        break
                elif not line.startswith("#"):
                    yield from self._variants(line, columns, number)
        if columns is None and first_line is not None:
            raise DataError(
                f"{self.path}, line {first_line}: the first line must name the columns {', '.join(COLUMNS)} with tabs "
                "between them"
            )

    def _variants(self, line: str, columns: dict[str, int], number: int) -> Iterator[Variant]:
        try:
            where = f"{self.path}, line {number}"
            sequence, position, reference, alternatives, identifier = _fields(line, columns, where)
        except DataError as error:
            self._report(error)
            return
        for allele, alternative in enumerate(alternatives.split(",")):
            if BASES.fullmatch(alternative):
                yield Variant(sequence, position, reference, alternative, number, identifier, allele)
            else:
                self.num_symbolic += 1


def score_variants(
    scorer: Scorer,
    reference: Reference,
    variants: Iterable[Variant],
    *,
    flank: int = FLANK,
    report: Report = raise_error,
) -> Iterator[VariantScore]:
    """Score each variant, as it comes, between `flank` reference bases on each side, fewer at the ends of a region.

    A variant outside the reference, or whose reference allele differs from it, is reported and left out.
    """
    in_work: deque[Variant] = deque()

    def passages() -> Iterator[Passage]:
        for variant in variants:
            try:
                pair = _stretches(reference, variant, flank)
            except DataError as error:
                report(error)
                continue
            in_work.append(variant)
            yield from map(Passage, pair)

    scores = scorer.score(passages())
    for of_reference in scores:
        yield VariantScore(in_work.popleft(), of_reference.logprob, next(scores).logprob)


def _stretches(reference: Reference, variant: Variant, flank: int) -> tuple[bytes, bytes]:
    """The bases with the reference allele, and with the alternative."""
    start = variant.position - 1
    end = start + len(variant.reference)
    where = f"variant in line {variant.line}, {variant.sequence}:{variant.position}"
    region = reference.region(variant.sequence, start, end)
    if region is None:
        raise DataError(f"{where}: is not in the reference, which has {reference.absence(variant.sequence)}")
    begin, stop = start - region.start, end - region.start
    if region.bases[begin:stop] != variant.reference.encode():
        there = region.bases[begin:stop][:SHOWN_BASES].decode("ascii", "replace")
        raise DataError(
            f"{where}: the reference has {there} there, the variant says {variant.reference[:SHOWN_BASES]}; "
            "are they of the same assembly?"
        )
    before, after = region.bases[max(begin - flank, 0) : begin], region.bases[stop : stop + flank]
    return before + variant.reference.encode() + after, before + variant.alternative.encode() + after


def _columns(header: str) -> dict[str, int] | None:
    names = [name.strip().lower() for name in header.lstrip("#").split("\t")]
    wanted = (*COLUMNS, *({IDENTIFIER} & set(names)))
    return {name: names.index(name) for name in wanted} if set(COLUMNS) <= set(names) else None


def _fields(line: str, columns: dict[str, int], where: str) -> tuple[str, int, str, str, str]:
    last = max(columns.values())
    fields = line.split("\t", last + 1)  # the genotypes of many thousand samples may follow
    if len(fields) <= last:
        raise DataError(f"{where}: has {len(fields)} columns, fewer than the first line names")
    sequence, position, reference, alternatives = (fields[columns[name]].strip() for name in COLUMNS)
    if not POSITION.fullmatch(position) or int(position) < 1:
        raise DataError(f"{where}: the position must be a whole number from 1, got {_shown(position)}")
    if not BASES.fullmatch(reference.upper()):
        raise DataError(f"{where}: the reference allele must be bases, got {_shown(reference)}")
    identifier = fields[columns[IDENTIFIER]].strip() if IDENTIFIER in columns else ""
    return sequence, int(position), reference.upper(), alternatives.upper(), identifier or "."


def _shown(value: str) -> str:
    return repr(value[:SHOWN_BASES].encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
