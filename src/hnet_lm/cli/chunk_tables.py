"""Tables about the cuts of one stage: agreement with references, and codon phases."""

from collections.abc import Sequence

from hnet_lm.cli.tables import percent, print_table
from hnet_lm.inspect import Agreement
from hnet_lm.inspect.codon_phase import CodonPhases


def print_agreements(agreements: Sequence[Agreement], tolerance: int) -> None:
    """Nothing without references."""
    if not agreements:
        return
    rows = []
    for item in agreements:
        pairs = ((item.precision, item.chance_precision), (item.recall, item.chance_recall), (item.f1, item.chance_f1))
        figures = [f"{value:.3f}" for pair in pairs for value in pair]
        rows.append([item.reference, f"{item.num_reference:,}", *figures])
    within = f" (within {tolerance:,})" if tolerance else ""
    headings = ("precision", "by chance", "recall", "by chance", "F1", "by chance")
    print_table((f"boundaries of{within}", "count", *headings), rows)


def print_phases(phases: Sequence[CodonPhases]) -> None:
    """Nothing without genes."""
    if not phases:
        return
    rows = []
    for found in phases:
        shares = (f"{percent(s)} ({percent(c)})" for s, c in zip(found.shares, found.chance_shares, strict=True))
        p_value = "" if found.p_value != found.p_value else f"{found.p_value:.2g}"
        rows.append([found.strand, f"{found.num_genes:,}", f"{sum(found.num_cuts):,}", *shares, p_value])
    headings = ("strand", "genes", "cuts", "between codons, % (chance)", "after base 1", "after base 2", "p")
    print_table(headings, rows)
