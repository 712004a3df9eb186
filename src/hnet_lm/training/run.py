"""A run on one rank: its live parts, how they are built, and how they are saved."""

import contextlib
import gc
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Self

import torch
from torch import nn

from hnet_lm.data import Batch, whole_state
from hnet_lm.data.tokenized import Loader, open_loader
from hnet_lm.model import HNetLM
from hnet_lm.tables import to_table
from hnet_lm.training.averages import AveragedWeights
from hnet_lm.training.checkpoints import CheckpointStore, publish, read_trainer
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.muon import Optimizer
from hnet_lm.training.optimizer import build_optimizer
from hnet_lm.training.plan import Plan
from hnet_lm.training.run_folder import CHECKPOINTS, STEP_FOLDERS
from hnet_lm.training.saving import BackgroundSave
from hnet_lm.training.sharding import distribute
from hnet_lm.training.start import open_model
from hnet_lm.training.step import StepResult
from hnet_lm.training.superposition import Superposition, superposed


@dataclass
class TrainState:
    """How far a run is: all that changes from update to update besides weights, optimizer and position in the data."""

    step: int = 0
    """Updates made, skipped ones included."""
    bytes_seen: int = 0
    """Bytes of text trained on, over all ranks."""
    skipped_steps: int = 0
    """Updates that were not applied, since loss or gradient was not finite."""
    skipped_in_a_row: int = 0
    """The last so many of them without one in between that was applied."""
    best_step: int | None = None
    """The step of the best validation; None before the first."""
    best_bits_per_byte: float | None = None
    """Bits per byte of that validation."""
    validated_step: int | None = None
    """The step that was validated last."""
    decay_step: int | None = None
    """Where the decay begins, once it has; the checkpoint of this step is kept."""
    seconds: float = 0.0
    """Time that the run has taken, of all processes that worked at it, when it was last saved."""
    plan: Plan | None = None
    """Of a run of so many minutes."""
    num_steps: int = 0
    """Updates in all, as far as it was known when the run was last saved."""
    term_memories: list[dict[str, float]] = field(default_factory=list)
    """What the terms of `[[loss.terms]]` carry, in their order; empty before the first update."""

    @property
    def is_finished(self) -> bool:
        return 0 < self.num_steps <= self.step

    @classmethod
    def from_saved(cls, saved: dict[str, Any]) -> Self:
        """From the JSON of a checkpoint."""
        plan = saved.get("plan")
        return cls(**{**saved, "plan": None if plan is None else Plan(**plan)})

    def advance(self, result: StepResult, num_bytes: int) -> None:
        """Count an update that saw `num_bytes` of text on all ranks."""
        self.step += 1
        self.bytes_seen += num_bytes
        self.skipped_steps += not result.applied
        self.skipped_in_a_row = 0 if result.applied else self.skipped_in_a_row + 1


@dataclass
class Run:
    """The live parts of a run on this rank."""

    asked: RunConfig
    """The configuration as it was given."""
    config: RunConfig
    """The same with everything that was left open: targets, and of a run of minutes the number of steps so far."""
    ranks: Ranks
    model: HNetLM
    network: nn.Module
    """The model as the update calls it: itself or over bags, with DDP around it where there are several ranks."""
    optimizer: Optimizer
    averages: AveragedWeights | None
    loader: Loader
    precision: torch.dtype
    store: CheckpointStore
    state: TrainState
    position: dict[str, Any]
    """In the data, after the last update, as far as this rank knows it; the loader may have read further."""
    began: float
    """When this process began to work at it, by the monotonic clock."""
    last_good: Path | None = None
    """The newest checkpoint that is known to be whole."""
    saving: BackgroundSave | None = None
    """The checkpoint that is being written."""
    bag_size: int = 1
    """Of the update that `network` is for; 1: a normal one."""
    seconds_before: float = 0.0
    """Time that earlier processes took."""

    @property
    def directory(self) -> Path:
        return directory_of(self.config)

    @property
    def saved_step(self) -> int:
        """The step of the last checkpoint, which may still be on its way."""
        path = self.last_good if self.saving is None else self.saving.path
        return 0 if path is None else int(path.name.removeprefix("step_"))

    @property
    def validation_is_due(self) -> bool:
        """Whether this step is to be validated and has not been."""
        config, step = self.config.validation, self.state.step
        is_due = step > 0 and (step % config.every == 0 or self.is_finished)
        return config.is_on and is_due and self.state.validated_step != step

    @property
    def is_finished(self) -> bool:
        """Not as long as nothing is planned of a run of so many minutes."""
        return self.config.run.num_steps is not None and self.state.step >= self.config.num_steps

    @property
    def decay_begins(self) -> bool:
        """Whether the next update is the first that decays."""
        schedule, step = self.config.schedule, self.state.step
        return schedule.name == "wsd" and 0 < step == schedule.decay_start(self.config.num_steps)

    @property
    def elapsed(self) -> float:
        """Seconds that the run has taken, stops not counted."""
        return self.seconds_before + monotonic() - self.began

    def close(self) -> None:
        """End what works in the background."""
        self.loader.close()
        if self.saving is not None:
            self.saving.abandon()

    def averaged(self) -> AbstractContextManager[None]:
        """Within the block the model has its averaged weights, if there are any."""
        return contextlib.nullcontext() if self.averages is None else self.averages.in_place()

    def follow(self, plan: Plan) -> None:
        """From now on the run is as long as the plan says."""
        self.state.plan = plan
        self.config = plan.applied_to(self.config)

    def micro_batches(self) -> Iterator[list[Batch]]:
        """What each update reads, for which `network` is then ready. Raises DataError."""
        while True:
            superposition = self.config.superposition
            if superposition.is_on:
                self._take_bags(superposition.bag_size_at(self.state.step, self.config.num_steps))
            yield [self._micro_batch() for _ in range(self.config.run.accumulation)]

    def _micro_batch(self) -> Batch:
        if self.bag_size == 1:
            return next(self.loader)
        return superposed([next(self.loader) for _ in range(self.bag_size)], self.bag_size)

    def _take_bags(self, bag_size: int) -> None:
        """From this update on the network reads bags of so many bytes; all ranks come here together."""
        if bag_size != self.bag_size:
            self.bag_size = bag_size
            self.network = self.model  # of DDP there must be one at a time, and it goes with a collection
            gc.collect()
            called = self.model if bag_size == 1 else Superposition(self.model, bag_size)
            self.network = distribute(called, self.config.distributed, self.ranks, self.precision)

    def advance(self, result: StepResult, num_bytes: int) -> None:
        """Count an update: from here on it is what a checkpoint would hold."""
        self.state.advance(result, num_bytes)
        if self.averages is not None and result.applied:
            self.averages.update(self.state.step - self.state.skipped_steps)
        self.position = self.loader.state_dict()

    def standing(self) -> str:
        """Where the run is, for messages about what stops it."""
        if self.last_good is None:
            return f"the run was at step {self.state.step} and has no checkpoint yet"
        return (
            f"the run was at step {self.state.step}, its last good checkpoint is {self.last_good}, "
            "from which the same command goes on"
        )


def is_finished(directory: Path) -> bool:
    """Whether the run in a folder has come to its end, as its newest checkpoint has it."""
    paths = sorted((directory / CHECKPOINTS).glob(STEP_FOLDERS))
    try:
        return bool(paths) and TrainState.from_saved(read_trainer(paths[-1])["state"]).is_finished
    except (OSError, ValueError, KeyError, TypeError):  # damaged, or written by another version
        return False


def directory_of(config: RunConfig) -> Path:
    return Path(config.run.directory).expanduser()


def build(asked: RunConfig, group: Ranks, began: float | None = None) -> Run:
    """Model, optimizer and data of a run that has not begun; its time counts from `began`, or from now."""
    config = asked
    model, network, precision, adapter = open_model(config, group)
    config = asked.for_model(model.config)
    loader = open_loader(
        config.data,
        vocab_size=model.config.vocab_size,
        special_ids=model.config.special_ids,
        rank=group.rank,
        num_ranks=group.num_ranks,
        hold_out=config.validation.hold_out,
    )
    optimizer = build_optimizer(model, config.optimizer, config.loss.target_ratios)
    store = CheckpointStore(directory_of(config) / CHECKPOINTS, group, config.checkpoints.keep, adapter)
    position = loader.state_dict()
    averages = AveragedWeights(model, config.optimizer.average) if config.optimizer.average else None
    parts = (model, network, optimizer, averages, loader, precision, store)
    return Run(asked, config, group, *parts, TrainState(), position, monotonic() if began is None else began)


def save(run: Run) -> Path:
    """Write a checkpoint, and make the run's folder itself a model directory with these weights; or begin to, where
    that is done in the background. Raises CannotWrite, also for the one before."""
    finish_saving(run)
    run.state.seconds, run.state.num_steps = run.elapsed, run.config.num_steps
    trainer = {
        "step": run.state.step,
        "best_step": run.state.best_step,
        "state": asdict(run.state),
        "loader": whole_state(run.ranks.gathered(run.position)),
        "precision": str(run.precision).removeprefix("torch."),
        "config": identity(run),
    }
    parts = (run.state.step, run.model.config, run.model, run.optimizer, trainer, run.averages)
    kept = (run.state.best_step, run.state.decay_step)
    if run.config.checkpoints.background and run.asked.run.minutes is None:  # whose plan counts how long a save takes

        def then() -> None:
            publish(path, run.directory)
            run.store.prune(path, kept)

        path = run.store.directory / f"step_{run.state.step:08d}"
        run.saving = run.store.begin(*parts, then)
        return path
    path = run.last_good = run.store.save(*parts)
    run.ranks.on_first(lambda: publish(path, run.directory))
    run.ranks.on_first(lambda: run.store.prune(path, kept))
    return path


def finish_saving(run: Run) -> None:
    """Wait for the checkpoint that is being written in the background, if there is one. Raises CannotWrite."""
    saving, run.saving = run.saving, None
    if saving is not None:
        try:
            saving.wait()
        finally:
            run.last_good = saving.path if saving.is_whole else run.last_good


def identity(run: Run) -> dict[str, Any]:
    """What must be the same for a resumed run to be the same run: its configuration, and the architecture itself."""
    table = to_table(run.asked.for_model(run.model.config))
    table["model"] = {"architecture": run.model.config.to_dict(), "freeze": table["model"]["freeze"]}
    return table
