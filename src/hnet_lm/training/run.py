"""A run on one rank: its live parts, how they are built, how they go on from a checkpoint, and how they are saved."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.data import Batch
from hnet_lm.data.tokenized import Loader, open_loader
from hnet_lm.errors import ConfigError
from hnet_lm.model import HNetLM
from hnet_lm.tables import to_table
from hnet_lm.training.activation_checkpointing import recompute_blocks
from hnet_lm.training.checkpoints import CheckpointStore, publish, read_trainer, restore
from hnet_lm.training.config import RunConfig, cannot_change, differences
from hnet_lm.training.distributed import Ranks, distribute
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.freezing import freeze
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.optimizer import build_optimizer
from hnet_lm.training.progress import Reporter
from hnet_lm.training.run_folder import CHECKPOINTS
from hnet_lm.training.step import StepResult


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

    def advance(self, result: StepResult, num_bytes: int) -> None:
        """Count an update that saw `num_bytes` of text on all ranks."""
        self.step += 1
        self.bytes_seen += num_bytes
        self.skipped_steps += not result.applied
        self.skipped_in_a_row = 0 if result.applied else self.skipped_in_a_row + 1


@dataclass
class Run:
    """The live parts of a run on this rank."""

    config: RunConfig
    ranks: Ranks
    model: HNetLM
    network: nn.Module
    """The model as it is called in training: itself, or with DDP around it."""
    optimizer: torch.optim.Optimizer
    loader: Loader
    precision: torch.dtype
    store: CheckpointStore
    state: TrainState
    position: dict[str, Any]
    """In the data, after the last update; the loader may have read further."""
    last_good: Path | None = None
    """The newest checkpoint that is known to be whole."""

    @property
    def directory(self) -> Path:
        return directory_of(self.config)

    @property
    def saved_step(self) -> int:
        """The step of the last good checkpoint."""
        return 0 if self.last_good is None else int(self.last_good.name.removeprefix("step_"))

    @property
    def validation_is_due(self) -> bool:
        """Whether this step is to be validated and has not been."""
        config, step = self.config.validation, self.state.step
        is_due = step > 0 and (step % config.every == 0 or self.is_finished)
        return bool(config.sources) and is_due and self.state.validated_step != step

    @property
    def is_finished(self) -> bool:
        return self.state.step >= self.config.run.num_steps

    def micro_batches(self) -> Iterator[list[Batch]]:
        """What each update reads. Raises DataError."""
        while True:
            yield [next(self.loader) for _ in range(self.config.run.accumulation)]

    def advance(self, result: StepResult, num_bytes: int) -> None:
        """Count an update: from here on it is what a checkpoint would hold."""
        self.state.advance(result, num_bytes)
        self.position = self.loader.state_dict()

    def standing(self) -> str:
        """Where the run is, for messages about what stops it."""
        if self.last_good is None:
            return f"the run was at step {self.state.step} and has no checkpoint yet"
        return (
            f"the run was at step {self.state.step}, its last good checkpoint is {self.last_good}, "
            "from which the same command goes on"
        )


def directory_of(config: RunConfig) -> Path:
    return Path(config.run.directory).expanduser()


def build(config: RunConfig, group: Ranks) -> Run:
    """Model, optimizer and data of a run that has not begun."""
    precision = group.from_first(choose_precision(config.run.precision, group.device))
    torch.manual_seed(config.run.seed)
    model = _make_model(config)
    config.check_model(model.config)
    freeze(model, config.model.freeze)
    if config.run.activation_checkpointing:
        recompute_blocks(model)
    model.to(group.device)
    network = distribute(model, config.distributed, group, precision)
    loader = open_loader(config.data, vocab_size=model.config.vocab_size, rank=group.rank, num_ranks=group.num_ranks)
    optimizer = build_optimizer(model, config.optimizer, config.loss.target_ratios)
    store = CheckpointStore(directory_of(config) / CHECKPOINTS, group, config.checkpoints.keep)
    position = loader.state_dict()
    return Run(config, group, model, network, optimizer, loader, precision, store, TrainState(), position)


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
    _check_changes(run, differences(saved["config"], _identity(run)), allow_changes)
    restore(newest, run.model, run.optimizer, run.ranks)
    run.loader.load_state_dict(saved["loader"])
    if run.config.run.precision == "auto":  # the machine may be another one now
        run.precision = getattr(torch, saved["precision"])
    run.state = TrainState(**saved["state"])
    run.position = run.loader.state_dict()
    run.last_good = newest
    reporter.say(f"going on from step {run.state.step} of {newest}")
    for leftover in run.store.leftovers():
        if leftover.suffix == ".partial":
            name = leftover.name.removeprefix(".").removesuffix(".partial")
            reporter.say(f"{name} was being written when the run was killed; it is left out", "yellow")


def save(run: Run) -> Path:
    """Write a checkpoint, and make the run's folder itself a model directory with these weights. Raises CannotWrite."""
    trainer = {
        "step": run.state.step,
        "best_step": run.state.best_step,
        "state": asdict(run.state),
        "loader": run.position,
        "precision": str(run.precision).removeprefix("torch."),
        "config": _identity(run),
    }
    path = run.store.save(run.state.step, run.model.config, run.model, run.optimizer, trainer)
    run.last_good = path
    run.ranks.on_first(lambda: publish(path, run.directory))
    run.ranks.on_first(lambda: run.store.prune(path, run.state.best_step))
    return path


def _make_model(config: RunConfig) -> HNetLM:
    if config.model.init_from:
        return checkpoint.load(config.model.init_from, dtype=torch.float32)
    model = HNetLM(HNetConfig.load(config.model.config))
    if config.model.byte_model:
        model.load_byte_model(checkpoint.load(config.model.byte_model, dtype=torch.float32))
    return model


def _identity(run: Run) -> dict[str, Any]:
    """What must be the same for a resumed run to be the same run: its configuration, and the architecture itself."""
    table = to_table(run.config)
    table["model"] = {"architecture": run.model.config.to_dict(), "freeze": table["model"]["freeze"]}
    return table


def _check_changes(run: Run, changes: list[str], allow_changes: bool) -> None:
    """Raises ConfigError where the folder holds another run. What cannot change is not offered to be allowed."""
    fixed = [line for line in changes if cannot_change(line)]
    if fixed:
        raise ConfigError(
            f"{run.directory} holds a run of another model or another order of the data ({'; '.join(fixed)}), "
            "which cannot change within a run; take another run.directory"
        )
    if changes and not allow_changes:
        raise ConfigError(
            f"{run.directory} holds a run with another configuration ({'; '.join(changes)}); "
            "take another run.directory, or allow it with --allow-changes"
        )
