import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from hnet_lm.genome import BedInterval
from hnet_lm.inspect import Chunks, agreement, summarize
from hnet_lm.inspect.codon_phase import CodonPhases, codon_phases


def test_summary_of_each_stage(make_chunks: Callable[..., Chunks]):
    outer, inner = summarize(make_chunks(b"0123456789", [0, 2, 3, 6], [0, 3]))
    assert (outer.num_chunks, outer.bytes_per_chunk, outer.positions_per_chunk) == (4, 2.5, 2.5)
    assert outer.histogram == (0, 1, 1, 1, 1)  # 1, 2, 3 and 4 bytes
    assert (outer.median_length, outer.max_length) == (2.5, 4)
    assert (inner.num_chunks, inner.bytes_per_chunk, inner.positions_per_chunk) == (2, 5.0, 2.0)


def test_the_first_byte_starts_a_chunk_in_any_case(make_chunks: Callable[..., Chunks]):
    found = make_chunks(b"abcd", [2])
    assert found.stages[0].starts.tolist() == [0, 2]
    assert not found.stages[0].is_boundary[0]


def test_an_empty_text(make_chunks: Callable[..., Chunks]):
    (summary,) = summarize(make_chunks(b"", []))
    assert summary.num_chunks == summary.max_length == 0
    assert math.isnan(summary.bytes_per_chunk)
    assert math.isnan(agreement(make_chunks(b"", []).stages[0], "x", np.array([1])).precision)


def test_long_chunks_share_the_last_bar(make_chunks: Callable[..., Chunks]):
    (summary,) = summarize(make_chunks(b"x" * 20, [0, 1, 3, 8]))  # lengths 1, 2, 5, 12
    assert summary.capped_histogram(3) == [1, 1, 2]
    assert summary.length_label(3, 3) == "3+"
    assert summary.capped_histogram(12) == [1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1]
    assert summary.length_label(12, 12) == "12"


def test_agreement_counts_neither_the_first_byte_nor_what_is_outside(make_chunks: Callable[..., Chunks]):
    stage = make_chunks(b"the cat sat", [0, 3, 5, 7]).stages[0]
    found = agreement(stage, "spaces", np.array([0, 3, 7, 7, 9, 11, -2]))
    assert (found.num_reference, found.num_boundaries, found.num_shared) == (3, 3, 2)
    assert found.precision == found.recall == found.f1 == pytest.approx(2 / 3)
    assert found.chance_precision == pytest.approx(3 / 10)
    assert found.to_json()["f1"] == found.f1


def test_precision_and_recall_divide_by_what_they_say(make_chunks: Callable[..., Chunks]):
    stage = make_chunks(b"0123456789", [0, 2, 4, 6, 8]).stages[0]
    found = agreement(stage, "one", np.array([4]))
    assert (found.precision, found.recall) == (1 / 4, 1.0)
    assert found.f1 == pytest.approx(2 * found.precision * found.recall / (found.precision + found.recall))
    missed = agreement(stage, "many", np.array([2, 3, 5, 7, 9]))
    assert (missed.precision, missed.recall) == (1 / 4, 1 / 5)


@pytest.mark.parametrize("tolerance", [0, 1, 3, 50])
def test_tolerance_and_chance_are_those_of_all_shifts(make_chunks: Callable[..., Chunks], tolerance: int):
    starts, marked, num_bytes = [0, 2, 3, 11, 18], np.array([1, 4, 17]), 20
    found = agreement(make_chunks(b"x" * num_bytes, starts).stages[0], "x", marked, tolerance)

    def is_near(place: int, others: list[int]) -> bool:
        return any(abs(place - other) <= tolerance for other in others)

    cuts, marks = starts[1:], marked.tolist()
    assert found.precision == sum(is_near(cut, marks) for cut in cuts) / 4
    assert found.recall == sum(is_near(mark, cuts) for mark in marks) / 3
    assert found.chance_precision == sum(is_near(place, marks) for place in range(1, num_bytes)) / 19
    assert found.chance_recall == sum(is_near(place, cuts) for place in range(1, num_bytes)) / 19
    assert found.f1 == (pytest.approx(2 / (1 / found.precision + 1 / found.recall)) if found.num_shared else 0)


def test_codon_phases_on_both_strands_and_over_exons():
    forward = BedInterval("chr1", 2, 23, "f", "+", ((2, 7), (10, 14)))
    backward = BedInterval("chr1", 30, 39, "b", "-", ((30, 39),))
    # forward: exon bases 2..6 and 10..13, so codons meet before 5 and (one base of a codon is left) before 11
    starts = np.array([0, 5, 6, 11, 12, 20, 33, 37, 39])
    both, plus, minus = codon_phases(starts, [forward, backward, BedInterval("chr1", 0, 9)], 60)
    assert (plus.strand, plus.num_genes, plus.num_cuts) == ("+", 1, (2, 2, 0))
    assert plus.num_places == (2, 3, 2)
    assert (minus.num_cuts, minus.num_places) == ((1, 0, 1), (2, 3, 3))
    assert both.num_cuts == (3, 2, 1)
    assert both.shares == (0.5, pytest.approx(1 / 3), pytest.approx(1 / 6))
    (plus, _) = codon_phases(np.array([0, 5]), [forward], 6)
    assert plus.num_places == (1, 1, 1)


def test_the_p_value_of_phases_is_that_of_chi_square():
    found = CodonPhases("both", 1, (60, 20, 40), (100, 100, 100))
    assert found.p_value == pytest.approx(scipy.stats.chisquare([60, 20, 40]).pvalue)
    assert math.isnan(CodonPhases("both", 1, (0, 0, 0), (1, 1, 1)).p_value)
