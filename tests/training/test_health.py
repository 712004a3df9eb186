"""Router health: what each kind of collapse is called, and when a warning comes."""

import math

import pytest
import torch

from hnet_lm.model import Routing
from hnet_lm.sequences import Sequences
from hnet_lm.training.chunk_statistics import ChunkStatistics, chunk_sums
from hnet_lm.training.health import PATIENCE, REPEAT, RouterHealth, diagnose


def statistics(length: float, sd: float = 1.0) -> ChunkStatistics:
    return ChunkStatistics(boundary_fraction=1 / length, mean_boundary_prob=0.5, chunk_length_sd=sd)


WELL = statistics(5.0)
TO_EVERY_BYTE = statistics(1.01, sd=0.1)
TO_NONE = statistics(200.0, sd=50.0)


@pytest.mark.parametrize(
    ("found", "says"),
    [
        (TO_EVERY_BYTE, "nearly every position is a boundary"),
        (statistics(1.0, sd=0.0), "nearly every position is a boundary"),
        (TO_NONE, "almost no boundaries"),
        (statistics(4.0, sd=0.0), "all chunks have the same length"),
        (statistics(1.5), "far from the target"),
        (statistics(14.0), "far from the target"),
    ],
)
def test_each_trouble_is_named_with_figures_and_what_to_try(found: ChunkStatistics, says: str) -> None:
    warning = diagnose(found, 5.0)
    assert warning is not None
    assert says in warning
    assert "Try" in warning
    assert f"{found.mean_chunk_length:.0f}" in warning or f"{found.mean_chunk_length:.1f}" in warning


@pytest.mark.parametrize("length", [2.1, 3.5, 5.0, 9.0, 12.0])
def test_a_router_near_its_target_is_well(length: float) -> None:
    assert diagnose(statistics(length), 5.0) is None


@pytest.mark.parametrize(("target", "longest"), [(5.0, 100.0), (20.0, 400.0)])
def test_almost_none_is_a_multiple_of_the_target(target: float, longest: float) -> None:
    for length in (0.99 * longest, 1.01 * longest):
        warning = diagnose(statistics(length), target)
        assert warning is not None
        assert ("almost no boundaries" in warning) == (length > longest)
    assert diagnose(statistics(25.0), 20.0) is None


def test_a_warning_needs_patience_and_is_repeated_now_and_then() -> None:
    health = RouterHealth([5.0])
    warned = [n for n in range(1, PATIENCE + 2 * REPEAT + 1) if health.check([TO_NONE])]
    assert warned == [PATIENCE, PATIENCE + REPEAT, PATIENCE + 2 * REPEAT]


def test_trouble_that_passes_is_forgotten() -> None:
    health = RouterHealth([5.0])
    for _ in range(3):
        for _ in range(PATIENCE - 1):
            assert health.check([TO_EVERY_BYTE]) == []
        assert health.check([WELL]) == []


def test_stages_are_watched_each_for_itself() -> None:
    health = RouterHealth([5.0, None, 3.0])
    found = [health.check([WELL, TO_NONE, TO_EVERY_BYTE]) for _ in range(PATIENCE)]
    assert found[:-1] == [[]] * (PATIENCE - 1)
    (warning,) = found[-1]
    assert warning.startswith("stage 2: nearly every position")


def test_statistics_of_a_routing() -> None:
    """Chunks of 3, 1, and in the next sequence 2 positions."""
    seqs = Sequences.from_lengths([4, 2])
    is_boundary = torch.tensor([True, False, False, True, True, False])
    prob = torch.tensor([1.0, 0.2, 0.4, 0.9, 1.0, 0.1])
    found = ChunkStatistics.from_sums(chunk_sums(Routing(prob, is_boundary, seqs)))
    assert found.boundary_fraction == pytest.approx(0.5)
    assert found.mean_chunk_length == pytest.approx(2.0)
    assert found.mean_boundary_prob == pytest.approx(0.6)
    assert found.chunk_length_sd == pytest.approx(math.sqrt(2 / 3))
