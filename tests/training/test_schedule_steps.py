"""Warm-up, decay and ramp in steps, and the checkpoint at the start of the decay, from which a longer run goes on."""

import dataclasses
import shutil
from pathlib import Path

import pytest
from training_runs import losses, run_config, updates, weights

from hnet_lm.errors import ConfigError
from hnet_lm.training.loop import train
from hnet_lm.training.run import is_finished
from hnet_lm.training.schedule import ScheduleConfig
from hnet_lm.training.terms import ratio_loss_at

IN_STEPS = {"warmup_steps": 2, "decay_steps": 3}


def test_a_longer_run_warms_up_and_decays_as_long() -> None:
    schedule = ScheduleConfig(**IN_STEPS)
    short, long = ([schedule.factor(step, n) for step in range(n)] for n in (8, 20))
    assert short[:2] == long[:2] == [0.5, 1.0]
    assert short[-3:] == long[-3:]
    assert short[2:5] == [1.0] * 3
    assert long[2:17] == [1.0] * 15


def test_steps_and_the_fraction_that_gives_them_are_the_same() -> None:
    in_steps, fractions = ScheduleConfig(warmup_steps=4, decay_steps=5), ScheduleConfig(warmup=0.2, decay=0.25)
    assert [in_steps.factor(s, 20) for s in range(20)] == [fractions.factor(s, 20) for s in range(20)]


def test_a_ramp_in_steps(tmp_path: Path) -> None:
    loss = {"start_target_ratios": [2.0], "ramp": 0.5}
    fraction = run_config(tmp_path, loss=loss, run={"num_steps": 8})
    steps = run_config(tmp_path, loss={**loss, "ramp_steps": 4}, run={"num_steps": 80})
    assert [ratio_loss_at(fraction, step) for step in range(8)] == [ratio_loss_at(steps, step) for step in range(8)]
    none = run_config(tmp_path, loss={**loss, "ramp_steps": 0})
    assert ratio_loss_at(none, 0).target_ratios == (3.0,)


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ({"warmup_steps": 4, "decay_steps": 3}, "4 steps of warm-up and 3 of decay exceed the run of 6 steps"),
        ({"warmup": 0.0, "decay_steps": 7}, "0 steps of warm-up and 7 of decay exceed the run of 6 steps"),
        ({"warmup_steps": -1}, "schedule.warmup_steps: must be a whole number, 0 or more"),
        ({"warmup_steps": 1, "decay": 1.0, "warmup": 0.0}, "nothing is left for 1 steps of warm-up"),
    ],
)
def test_what_does_not_fit_into_the_run(tmp_path: Path, schedule: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        run_config(tmp_path, schedule=schedule)


def test_a_longer_run_goes_on_from_the_start_of_the_decay(tmp_path: Path) -> None:
    """As documented: that checkpoint in a folder of its own, and the same command with more steps."""
    kept = {"every": 1, "keep": 1, "before_decay": True}
    config = run_config(tmp_path, run={"num_steps": 8}, schedule=IN_STEPS, checkpoints=kept)
    assert train(config).decay_step == 5
    run = tmp_path / "run" / "checkpoints"
    assert [path.name for path in sorted(run.iterdir())] == ["step_00000005", "step_00000008"]
    assert is_finished(tmp_path / "run")

    longer = dataclasses.replace(
        config, run=dataclasses.replace(config.run, num_steps=12, directory=str(tmp_path / "longer"))
    )
    shutil.copytree(run / "step_00000005", tmp_path / "longer" / "checkpoints" / "step_00000005")
    assert not is_finished(tmp_path / "longer")
    with pytest.raises(ConfigError, match=r"run\.num_steps: 8 -> 12"):
        train(longer)
    train(longer, allow_changes=True)
    assert [record["step"] for record in updates(tmp_path / "longer")] == list(range(6, 13))

    whole = dataclasses.replace(longer, run=dataclasses.replace(longer.run, directory=str(tmp_path / "whole")))
    train(whole)
    found, wanted = losses(tmp_path / "longer"), losses(tmp_path / "whole")
    assert found == {step: loss for step, loss in wanted.items() if step > 5}
    assert all(weights(tmp_path / "longer")[name].equal(w) for name, w in weights(tmp_path / "whole").items())


def test_the_start_of_the_decay_is_kept_where_it_had_been_saved_anyway(tmp_path: Path) -> None:
    kept = {"every": 5, "keep": 1, "before_decay": True}
    train(run_config(tmp_path, run={"num_steps": 8}, schedule=IN_STEPS, checkpoints=kept))
    run = tmp_path / "run" / "checkpoints"
    assert [path.name for path in sorted(run.iterdir())] == ["step_00000005", "step_00000008"]
