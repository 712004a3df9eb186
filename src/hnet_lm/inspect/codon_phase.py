"""The codon phase of cuts: whether chunks start between codons or inside them.

A cut in a coding part has phase 0 between codons, 1 after the first base of a codon and 2 after the second; on the
reverse strand bases are counted from the other end. Codons continue from one exon to the next. The first and last cut
of a coding part are left out, as are genes without a strand. Each share is shown beside that of all positions of the
same genes, with the probability of shares at least as uneven if cuts were placed independently at random (chi-square
with two degrees of freedom).
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from hnet_lm.genome import BedInterval


@dataclass(frozen=True)
class CodonPhases:
    """Cuts in genes of a strand, `+`, `-` or `both`, by phase, and the positions where a cut is possible."""

    strand: str
    num_genes: int
    num_cuts: tuple[int, int, int]
    num_places: tuple[int, int, int]

    @property
    def shares(self) -> tuple[float, ...]:
        return _shares(self.num_cuts)

    @property
    def chance_shares(self) -> tuple[float, ...]:
        return _shares(self.num_places)

    @property
    def p_value(self) -> float:
        """NaN without cuts."""
        total = sum(self.num_cuts)
        expected = [total * share for share in self.chance_shares]
        if not total or not all(expected):
            return math.nan
        chi_square = sum((n - e) ** 2 / e for n, e in zip(self.num_cuts, expected, strict=True))
        return math.exp(-chi_square / 2)

    def __add__(self, other: "CodonPhases") -> "CodonPhases":
        """The sum of two texts, for one strand."""
        cuts = [a + b for a, b in zip(self.num_cuts, other.num_cuts, strict=True)]
        places = [a + b for a, b in zip(self.num_places, other.num_places, strict=True)]
        return CodonPhases(self.strand, self.num_genes + other.num_genes, _three(cuts), _three(places))

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {"shares": self.shares, "chance_shares": self.chance_shares, "p_value": self.p_value}


def codon_phases(starts: np.ndarray, genes: Iterable[BedInterval], num_bases: int) -> list[CodonPhases]:
    """For both strands together, then for each strand that has genes. Offsets are into a text of `num_bases`."""
    is_cut = np.zeros(num_bases, dtype=bool)
    is_cut[starts[starts > 0]] = True
    counts = {strand: np.zeros((2, 3), dtype=np.int64) for strand in "+-"}
    num_genes = dict.fromkeys("+-", 0)
    for gene in genes:
        if gene.strand not in counts:
            continue
        before = counts[gene.strand][1].sum()
        for places, phases in _places(gene, num_bases):
            counts[gene.strand] += [np.bincount(phases[is_cut[places]], minlength=3), np.bincount(phases, minlength=3)]
        num_genes[gene.strand] += int(counts[gene.strand][1].sum() > before)
    rows = {"both": counts["+"] + counts["-"], **counts}
    num_genes["both"] = sum(num_genes.values())
    return [
        CodonPhases(strand, num_genes[strand], *map(_three, found.tolist()))
        for strand, found in rows.items()
        if num_genes[strand]
    ]


def _places(gene: BedInterval, num_bases: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each coding part, the offsets inside it that are in the text, and their phases."""
    num_coded = 0
    is_forward = gene.strand == "+"
    for start, end in gene.coding if is_forward else reversed(gene.coding):
        places = np.arange(max(start + 1, 1), min(end, num_bases))
        yield places, (num_coded + (places - start if is_forward else end - places)) % 3
        num_coded += end - start


def _three(counts: Sequence[int]) -> tuple[int, int, int]:
    first, second, third = counts
    return first, second, third


def _shares(counts: tuple[int, ...]) -> tuple[float, ...]:
    total = sum(counts)
    return tuple(count / total if total else math.nan for count in counts)
