"""Schedules of the learning rate at every step, and ramps of the ratio loss's target and weight."""

import itertools
import math
from pathlib import Path

import pytest
from training_runs import run_config

from hnet_lm.training.schedule import ScheduleConfig, ramp
from hnet_lm.training.terms import ratio_loss_at


def factors(config: ScheduleConfig, num_steps: int) -> list[float]:
    return [config.factor(step, num_steps) for step in range(num_steps)]


def test_wsd_at_every_step() -> None:
    found = factors(ScheduleConfig("wsd", warmup=0.2, decay=0.25, final=0.1), 20)
    warmup = [1 / 4, 2 / 4, 3 / 4, 1.0]
    decay = [0.1 + 0.9 * (1 - math.sqrt(k / 5)) for k in range(1, 6)]
    assert found == pytest.approx(warmup + [1.0] * 11 + decay)
    assert found[-1] == pytest.approx(0.1)


def test_cosine_at_every_step() -> None:
    found = factors(ScheduleConfig("cosine", warmup=0.2, final=0.1), 20)
    warmup = [1 / 4, 2 / 4, 3 / 4, 1.0]
    decay = [0.1 + 0.9 * (1 + math.cos(math.pi * k / 16)) / 2 for k in range(16)]
    assert found == pytest.approx(warmup + decay)


@pytest.mark.parametrize("name", ["wsd", "cosine"])
def test_no_warmup_starts_at_the_peak(name: str) -> None:
    assert ScheduleConfig(name, warmup=0.0).factor(0, 100) == 1.0


def test_no_decay_stays_at_the_peak() -> None:
    assert factors(ScheduleConfig("wsd", warmup=0.1, decay=0.0), 50)[5:] == [1.0] * 45


@pytest.mark.parametrize("name", ["wsd", "cosine"])
def test_no_jumps(name: str) -> None:
    """Neither at the end of the warm-up nor within the decay; the decay's steepest step is its first one."""
    num_steps = 10_000
    found = factors(ScheduleConfig(name, warmup=0.1, decay=0.2), num_steps)
    jumps = [abs(after - before) for before, after in itertools.pairwise(found)]
    assert max(jumps) <= math.sqrt(1 / (0.2 * num_steps)) + 1e-12
    assert max(jumps[:7998]) <= 1 / (0.1 * num_steps) + 1e-12
    assert all(before >= after for before, after in itertools.pairwise(found[1000:]))
    assert found[-1] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("name", ["wsd", "cosine"])
@pytest.mark.parametrize("num_steps", [1, 2, 3, 7, 10])
def test_every_factor_of_a_short_run_is_a_fraction(name: str, num_steps: int) -> None:
    for warmup, decay in ((0.0, 0.0), (0.1, 0.2), (0.5, 0.5), (1.0, 0.0), (0.0, 1.0)):
        found = factors(ScheduleConfig(name, warmup=warmup, decay=decay), num_steps)
        assert all(0 <= factor <= 1 for factor in found)
        assert max(found) > 0 or num_steps == 1


def test_ramp_is_linear_and_then_constant() -> None:
    found = [ramp(2.0, 6.0, over=0.5, step=step, num_steps=16) for step in range(16)]
    assert found == pytest.approx([2.0 + 0.5 * step for step in range(8)] + [6.0] * 8)
    assert ramp(2.0, 6.0, over=0.0, step=0, num_steps=16) == 6.0


def test_target_and_weight_of_the_ratio_loss_ramp(tmp_path: Path) -> None:
    loss = {"start_target_ratios": [2.0, 1.5], "start_ratio_loss_weight": 0.13, "ramp": 0.5}
    config = run_config(tmp_path, 2, loss=loss, run={"num_steps": 8})
    found = [ratio_loss_at(config, step) for step in range(8)]
    assert [terms.target_ratios[0] for terms in found] == pytest.approx([2.0, 2.25, 2.5, 2.75, 3, 3, 3, 3])
    assert [terms.target_ratios[1] for terms in found][:5] == pytest.approx([1.5, 1.625, 1.75, 1.875, 2])
    assert [terms.weight for terms in found][:5] == pytest.approx([0.13, 0.105, 0.08, 0.055, 0.03])
    assert not found[0].over_all_ranks


def test_a_target_is_held_before_it_ramps(tmp_path: Path) -> None:
    """As ATDC does: held for most of the run, then raised linearly."""
    loss = {"start_target_ratios": [2.0], "ramp": 0.25, "ramp_after": 0.5}
    config = run_config(tmp_path, loss=loss, run={"num_steps": 8})
    found = [ratio_loss_at(config, step).target_ratios[0] for step in range(8)]
    assert found == pytest.approx([2, 2, 2, 2, 2, 2.5, 3, 3])
    jump = run_config(tmp_path, loss={**loss, "ramp": 0.0}, run={"num_steps": 8})
    assert [ratio_loss_at(jump, step).target_ratios[0] for step in range(3, 6)] == [2.0, 3.0, 3.0]


def test_without_a_start_nothing_ramps(tmp_path: Path) -> None:
    config = run_config(tmp_path, 2, loss={"ramp": 0.5, "statistics": "global"})
    terms = ratio_loss_at(config, 0)
    assert terms.target_ratios == (3.0, 2.0)
    assert terms.weight == 0.03
    assert terms.over_all_ranks
