"""A run goes on from its newest checkpoint, if it is the same run."""

from typing import Any

import torch

from hnet_lm.errors import ConfigError
from hnet_lm.training.changes import cannot_change, completed, differences
from hnet_lm.training.checkpoints import read_trainer
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.progress import Reporter
from hnet_lm.training.restoring import restore
from hnet_lm.training.run import Run, TrainState, identity


def resume(run: Run, reporter: Reporter, allow_changes: bool) -> None:
    """Go on from the newest checkpoint that is whole, if the folder has one."""
    run.ranks.on_first(run.store.recover)
    newest, damaged = run.store.newest()
    for line in damaged:
        reporter.say(line, "yellow")
    if newest is None:
        if damaged:
            raise TrainingError(f"{run.store.directory}: no checkpoint is whole; move the folder away to start anew")
        return
    saved = read_trainer(newest)
    state = TrainState.from_saved(saved["state"])
    _check_changes(run, _changes(run, saved["config"], state), allow_changes)
    restore(newest, run.model, run.optimizer, run.ranks, run.averages, run.store.adapter)
    run.loader.load_state_dict(saved["loader"])
    if run.config.run.precision == "auto":  # the machine may be another one now
        run.precision = getattr(torch, saved["precision"])
    run.state, run.seconds_before = state, state.seconds
    if run.asked.run.minutes is None or run.asked.run.minutes != saved["config"]["run"].get("minutes"):
        state.plan = None
    elif state.plan is not None:
        run.follow(state.plan)
    run.position = run.loader.state_dict()
    run.last_good = newest
    reporter.say(f"going on from step {run.state.step} of {newest}")
    for leftover in run.store.leftovers():
        if leftover.suffix == ".partial":
            name = leftover.name.removeprefix(".").removesuffix(".partial")
            reporter.say(f"{name} was being written when the run was killed; it is left out", "yellow")


def _changes(run: Run, saved: dict[str, Any], state: TrainState) -> list[str]:
    """In what the run is another one than that of a checkpoint. A number of steps is the one that was planned."""
    saved, now, plan = completed(saved), identity(run), state.plan
    if plan is not None and run.asked.run.num_steps is not None and saved["run"].get("minutes") is not None:
        num_steps = run.asked.run.num_steps
        schedule, loss = run.config.schedule, run.config.loss
        warmup_steps = schedule.num_warmup(num_steps)
        ramp_steps = loss.ramp * num_steps if loss.ramp_steps is None else loss.ramp_steps
        is_open = not plan.is_final and state.step <= schedule.decay_start(num_steps)
        planned = {"minutes": None, "num_steps": num_steps if is_open else plan.num_steps}
        saved = {
            **saved,
            "run": {**saved["run"], **planned},
            "schedule": {**saved["schedule"], "warmup_steps": plan.warmup_steps},
            "loss": {**saved["loss"], "ramp_steps": plan.ramp_steps},
        }
        now["schedule"]["warmup_steps"], now["loss"]["ramp_steps"] = warmup_steps, ramp_steps
        if not loss.ramps:
            now["loss"]["ramp_steps"] = plan.ramp_steps
    return differences(saved, now)


def _check_changes(run: Run, changes: list[str], allow_changes: bool) -> None:
    """Raises ConfigError where the folder holds another run. What cannot change is not offered to be allowed."""
    fixed = [line for line in changes if cannot_change(line)]
    if fixed:
        raise ConfigError(
            f"{run.directory} holds a run of another model, adapter or order of the data ({'; '.join(fixed)}), "
            "which cannot change within a run; take another run.directory"
        )
    if changes and not allow_changes:
        raise ConfigError(
            f"{run.directory} holds a run with another configuration ({'; '.join(changes)}); "
            "take another run.directory, or allow it with --allow-changes"
        )
