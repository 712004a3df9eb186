"""A run of so many minutes ends in time, its schedule complete; given the steps that it found, it is the same run."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Listener, losses, run_config, updates, weights

from hnet_lm.errors import ConfigError
from hnet_lm.training import budget, loop, plan, run, validation
from hnet_lm.training.checkpoints import CheckpointStore
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.plan import Pace, Plan, least_steps
from hnet_lm.training.run import TrainState
from hnet_lm.training.schedule import ScheduleConfig
from hnet_lm.training.step import StepResult
from hnet_lm.training.validation import Measured, Validator

SCHEDULE = {"warmup": 0.1, "decay": 0.3}


class Clock:
    """Time that passes when updates are made, checkpoints saved and texts measured, and not otherwise."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.num_updates = 0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Clock]:
    def start(update: Callable[[int], float], save: float = 0.0, measure: float = 0.0, *, learns: bool = True) -> Clock:
        """`update(n)` seconds for the n-th update that the test makes; `measure` for a whole validation.

        Where it is only about time, nothing learns: updates and validations are none.
        """
        clock = Clock()
        for module in (budget, loop, plan, run, validation):
            monkeypatch.setattr(module, "monotonic", clock)
        plain_update, plain_save, plain_measure = loop.update, CheckpointStore.save, Validator._measure

        def slow_update(*arguments: Any) -> Any:
            clock.now += update(clock.num_updates)
            clock.num_updates += 1
            if learns:
                return plain_update(*arguments)
            sums = torch.tensor([96.0, 96.0, 1.0], dtype=torch.float64)
            chunks = torch.tensor([[96.0, 32.0, 32.0, 288.0]], dtype=torch.float64)
            return StepResult(sums, ("stage0/ratio_loss",), chunks, 1, 96, 1.0, True)

        def slow_save(*arguments: Any, **options: Any) -> Any:
            clock.now += save
            return plain_save(*arguments, **options)

        def slow_measure(validator: Validator, texts: Any, **options: Any) -> Any:
            texts = list(texts)
            clock.now += measure * sum(map(len, texts)) / validator.config.max_bytes
            return plain_measure(validator, texts, **options) if learns else Measured(2.0, 1, None)

        for module in (budget, loop):
            monkeypatch.setattr(module, "update", slow_update)
        monkeypatch.setattr(CheckpointStore, "save", slow_save)
        monkeypatch.setattr(Validator, "_measure", slow_measure)
        return clock

    return start


def of_minutes(folder: Path, minutes: float, name: str = "run", **tables: Any) -> RunConfig:
    schedule = {**SCHEDULE, **tables.pop("schedule", {})}
    config = run_config(folder, name=name, schedule=schedule, checkpoints={"every": 1000}, **tables)
    return dataclasses.replace(config, run=dataclasses.replace(config.run, num_steps=None, minutes=minutes))


def as_given(config: RunConfig, name: str, state: TrainState) -> RunConfig:
    """The run with the numbers that were planned, as from the command line."""
    assert state.plan is not None
    values = state.plan.options(config).split()
    given = {key.removeprefix("--"): int(value) for key, value in zip(values[::2], values[1::2], strict=True)}
    directory = str(Path(config.run.directory).with_name(name))
    schedule, loss = config.schedule, config.loss
    if "schedule.warmup-steps" in given:
        schedule = dataclasses.replace(schedule, warmup_steps=given.pop("schedule.warmup-steps"))
    if "loss.ramp-steps" in given:
        loss = dataclasses.replace(loss, ramp_steps=given.pop("loss.ramp-steps"))
    steps = dataclasses.replace(config.run, directory=directory, minutes=None, num_steps=given.pop("run.num-steps"))
    assert not given
    return dataclasses.replace(config, run=steps, schedule=schedule, loss=loss)


def assert_same(left: Path, right: Path) -> None:
    assert losses(left) == losses(right)
    found, wanted = weights(left), weights(right)
    assert all(found[name].equal(weight) for name, weight in wanted.items())


@pytest.mark.parametrize(
    "pace",
    [lambda n: 1.0, lambda n: 1.5 if n < 20 else 0.9, lambda n: 0.7 + 0.01 * min(n, 60), lambda n: 1.0 + 0.4 * (n % 3)],
    ids=["even", "faster", "slower", "uneven"],
)
def test_it_ends_in_time_with_its_schedule_complete(tmp_path: Path, clock: Any, pace: Callable[[int], float]) -> None:
    time = clock(pace, save=1.0, measure=4.0, learns=False)
    held_out = {"sources": [{"path": str(tmp_path / "corpus.jsonl")}], "max_bytes": 400, "every": 1000}
    config = of_minutes(tmp_path, 2, validation={**held_out, "sample_bytes": 0}, logging={"report": True})
    began = time.now
    listener = Listener()
    state = train(config, listener)
    assert time.now - began == pytest.approx(120, rel=0.02)
    assert state.is_finished
    assert state.plan is not None
    assert state.plan.is_final
    schedule = dataclasses.replace(config.schedule, warmup_steps=state.plan.warmup_steps)
    rates = [record["lr"] / config.optimizer.lr for record in updates(tmp_path / "run")]
    assert rates == pytest.approx([schedule.factor(step, state.step) for step in range(state.step)])
    assert rates[-1] == pytest.approx(0.0)
    assert f"{state.step} steps in" in listener.messages[-1]
    assert state.plan.options(config) in listener.messages[-1]
    assert state.plan.options(config) in (tmp_path / "run" / "report.md").read_text()


def test_the_steps_that_came_of_it_give_the_same_run(tmp_path: Path, clock: Any) -> None:
    clock(lambda n: 1.0 + 0.3 * (n % 2) + 0.01 * n)
    loss = {"start_target_ratios": [2.0], "ramp": 0.4}
    config = of_minutes(tmp_path, 0.25, loss=loss)
    state = train(config)
    assert state.step > 8
    train(as_given(config, "given", state))
    assert_same(tmp_path / "run", tmp_path / "given")


@pytest.mark.parametrize("stop_at", [1, 4, 8])
def test_a_stopped_one_goes_on_and_is_the_run_of_its_steps(tmp_path: Path, clock: Any, stop_at: int) -> None:
    """Stopped in the warm-up, in the stable part and in the decay; the time of the stop does not count."""
    time = clock(lambda n: 1.0)
    config = of_minutes(tmp_path, 0.25, schedule={"warmup": 0.2})
    stop = Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop_at else None)
    stopped = train(config, stop)
    assert stopped.step == stop_at + 1
    assert not stopped.is_finished
    time.now += 1e6
    state = train(config)
    assert state.is_finished
    assert state.seconds == pytest.approx(15, abs=1.0)
    train(as_given(config, "given", state))
    assert_same(tmp_path / "run", tmp_path / "given")


def test_stopped_it_goes_on_with_the_steps_given(tmp_path: Path, clock: Any) -> None:
    """In place of the minutes; the whole run of so many steps is the same. Other numbers than were used are refused."""
    clock(lambda n: 1.0)
    config = of_minutes(tmp_path, 0.25, schedule={"warmup_steps": 3})
    train(config, Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 4 else None))
    given = dataclasses.replace(config, run=dataclasses.replace(config.run, minutes=None, num_steps=11))
    other = dataclasses.replace(given, schedule=dataclasses.replace(given.schedule, warmup_steps=4))
    with pytest.raises(ConfigError, match=r"schedule.warmup_steps: 3 -> 4"):
        train(other)
    early = dataclasses.replace(given, run=dataclasses.replace(given.run, num_steps=6))
    with pytest.raises(ConfigError, match=r"run.num_steps: \d+ -> 6"):
        train(early)
    assert train(given).step == 11
    whole = dataclasses.replace(given, run=dataclasses.replace(given.run, directory=str(tmp_path / "whole")))
    train(whole)
    assert_same(tmp_path / "run", tmp_path / "whole")


def test_more_minutes_go_on_stable(tmp_path: Path, clock: Any) -> None:
    clock(lambda n: 1.0, learns=False)
    first = train(of_minutes(tmp_path, 0.3))
    with pytest.raises(ConfigError, match=r"run.minutes: 0.3 -> 0.6"):
        train(of_minutes(tmp_path, 0.6))
    state = train(of_minutes(tmp_path, 0.6), allow_changes=True)
    assert state.step > first.step + 10
    assert state.seconds == pytest.approx(36, abs=1.5)


def test_a_cosine_is_planned_by_the_end_of_its_warmup(tmp_path: Path, clock: Any) -> None:
    time = clock(lambda n: 1.0)
    began = time.now
    config = of_minutes(tmp_path, 0.25, schedule={"name": "cosine", "warmup": 0.3})
    listener = Listener()
    state = train(config, listener)
    assert time.now - began == pytest.approx(15, abs=1.5)
    assert state.plan is not None
    (settled,) = [message for message in listener.messages if "settled" in message]
    assert settled.startswith(f"step {state.plan.warmup_steps}: ")
    train(as_given(config, "given", state))
    assert_same(tmp_path / "run", tmp_path / "given")


def test_too_short_a_time_is_still_a_whole_run(tmp_path: Path, clock: Any) -> None:
    clock(lambda n: 5.0, learns=False)
    state = train(of_minutes(tmp_path, 0.05))
    assert state.is_finished
    assert state.step >= 1


@pytest.mark.parametrize("decay", [0.0, 0.2, 0.5, 0.99])
@pytest.mark.parametrize("start", [0, 1, 7, 100, 12345])
def test_the_fewest_steps_whose_decay_starts_no_earlier(decay: float, start: int) -> None:
    schedule = ScheduleConfig(warmup=0.0, decay=decay)
    found = least_steps(schedule, start)
    assert schedule.decay_start(found) >= start
    assert found == 0 or all(schedule.decay_start(fewer) < start for fewer in range(max(0, found - 3), found))


def test_a_number_of_steps_close_by_is_taken_if_it_repeats_the_run_alone(tmp_path: Path) -> None:
    config = of_minutes(tmp_path, 1.0, schedule={"warmup": 0.05, "decay": 0.3})
    planned = Plan.first(config, 400)
    assert planned.warmup_steps == 20
    assert planned.snapped(config, 412) == 410
    assert dataclasses.replace(planned, num_steps=410).options(config) == "--run.num-steps 410"
    assert planned.snapped(config, 500) == 500
    options = dataclasses.replace(planned, num_steps=500).options(config)
    assert options == "--run.num-steps 500 --schedule.warmup-steps 20"


def test_what_comes_on_the_way_is_counted(tmp_path: Path) -> None:
    """100 seconds: updates of one, a checkpoint every 20 steps of 2, one at the end, and the report."""
    config = of_minutes(tmp_path, 100 / 60)
    config = dataclasses.replace(config, checkpoints=dataclasses.replace(config.checkpoints, every=20))
    pace = Pace(config)
    pace.costs.checkpoint = 2.0
    for number in range(10):
        pace.update_took(1.0, number + 1)
    found = pace.num_steps(10, 10.0)
    assert found + 2 * ((found - 1) // 20) + 2 + plan.REPORT == pytest.approx(100, abs=2)


@pytest.mark.parametrize(
    ("tables", "message"),
    [
        ({"num_steps": None, "minutes": None}, "run: give either num_steps or minutes"),
        ({"num_steps": 5, "minutes": 1.0}, "run: give either num_steps or minutes, not both"),
        ({"num_steps": None, "minutes": 0.0}, "run.minutes: must be a number above 0"),
    ],
)
def test_a_length_is_given_once(tmp_path: Path, tables: dict[str, Any], message: str) -> None:
    config = run_config(tmp_path)
    with pytest.raises(ConfigError) as caught:
        dataclasses.replace(config.run, **tables)
    assert message in str(caught.value)
