"""The run: build everything, go on from the newest checkpoint if there is one, then update, log, validate, save.

Read `train` first; what it calls is in the order of its calls. An update itself is in `step.py`.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.data.tokenized import TOKENIZER, Loader, open_loader
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.model import HNetLM
from hnet_lm.training.activation_checkpointing import recompute_blocks
from hnet_lm.training.checkpoints import CheckpointStore, publish, read_trainer, restore
from hnet_lm.training.config import RunConfig, differences
from hnet_lm.training.distributed import Ranks, distribute, ranks
from hnet_lm.training.freezing import freeze
from hnet_lm.training.health import RouterHealth
from hnet_lm.training.machine import choose_precision
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.metrics import MetricsLog, open_tracker
from hnet_lm.training.optimizer import build_optimizer, set_learning_rate
from hnet_lm.training.progress import Reporter, Silent
from hnet_lm.training.records import Recorder
from hnet_lm.training.schedule import ramp
from hnet_lm.training.signals import StopSignals
from hnet_lm.training.step import LossTerms, StepResult, update
from hnet_lm.training.tables import to_table
from hnet_lm.training.validation import Validator


class TrainingError(UserError):
    """A run that cannot go on; the message says where its last good checkpoint is."""


@dataclass
class TrainState:
    """How far a run is: all that changes from update to update beside weights, optimizer and position in the data."""

    step: int = 0
    bytes_seen: int = 0
    skipped_steps: int = 0
    skipped_in_a_row: int = 0
    best_step: int | None = None
    best_bits_per_byte: float | None = None

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

    @property
    def directory(self) -> Path:
        return Path(self.config.run.directory)


def train(config: RunConfig, reporter: Reporter | None = None, *, allow_changes: bool = False) -> TrainState:
    """Train, or go on training, until the last step or a signal. Returns how far the run is.

    Raises ConfigError if the run in that folder was started with another configuration (unless `allow_changes`), and
    TrainingError if too many updates in a row are not finite.
    """
    keep_freed_memory()
    with StopSignals() as signals, ranks() as group:
        reporter = reporter if reporter is not None and group.is_first else Silent()
        return _train(config, group, reporter, signals, allow_changes)


def _train(
    config: RunConfig, group: Ranks, reporter: Reporter, signals: StopSignals, allow_changes: bool
) -> TrainState:
    run = build(config, group)
    resume(run, reporter, allow_changes)
    log = _open_log(run)
    reporter.start(run.state.step, config.run.num_steps)
    try:
        stopped = _run(run, log, reporter, signals)
    finally:
        reporter.close()
        run.loader.close()
        if log is not None:
            log.close()
    if stopped:
        reporter.say(f"stopped and saved at step {run.state.step}; the same command goes on from there", "yellow")
    return run.state


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
    store = CheckpointStore(Path(config.run.directory) / "checkpoints", group, config.checkpoints.keep)
    return Run(config, group, model, network, optimizer, loader, precision, store, TrainState())


def resume(run: Run, reporter: Reporter, allow_changes: bool) -> None:
    """Go on from the newest checkpoint that is whole, if the folder has one."""
    newest, damaged = run.store.newest()
    for line in damaged:
        reporter.say(line, "yellow")
    if newest is None:
        if damaged:
            raise TrainingError(f"{run.store.directory}: no checkpoint is whole; move the folder away to start anew")
        return
    saved = read_trainer(newest)
    changes = differences(saved["config"], _identity(run))
    if changes and not allow_changes:
        raise ConfigError(
            f"{run.directory} holds a run with another configuration ({'; '.join(changes)}); "
            "take another run.directory, or allow it with --allow-changes"
        )
    restore(newest, run.model, run.optimizer, run.ranks)
    run.loader.load_state_dict(saved["loader"])
    if run.config.run.precision == "auto":  # measured again, it might come out otherwise
        run.precision = getattr(torch, saved["precision"])
    run.state = TrainState(**saved["state"])
    if run.ranks.is_first:  # a kill may have come before this was done
        publish(newest, run.directory)
    reporter.say(f"going on from step {run.state.step} of {newest}")


def _run(run: Run, log: MetricsLog | None, reporter: Reporter, signals: StopSignals) -> bool:
    """The loop; whether a signal ended it, on this rank or another."""
    config, state = run.config, run.state
    recorder = Recorder(run.model.config, config.data.max_length, run.precision, run.ranks)
    health = RouterHealth(config.target_ratios(run.model.config))
    validator = Validator(run.model, config, run.ranks.device, run.precision)
    last_saved = state.step
    while state.step < config.run.num_steps:
        rate = config.optimizer.lr * config.schedule.factor(state.step, config.run.num_steps)
        set_learning_rate(run.optimizer, rate)
        terms = loss_terms(config, state.step)
        batches = [next(run.loader) for _ in range(config.run.accumulation)]
        max_grad_norm = config.optimizer.max_grad_norm
        result = update(run.network, run.optimizer, batches, terms, max_grad_norm, run.precision, run.ranks)
        num_bytes, num_signals = run.ranks.sum_of(result.num_bytes, signals.received is not None)
        state.advance(result, int(num_bytes))
        recorder.count(int(num_bytes))
        is_last, stop = state.step == config.run.num_steps, num_signals > 0
        record = None
        if state.step % config.logging.every == 0 or is_last or not result.applied:
            record, chunks = recorder.record(result, state.step, state.bytes_seen, rate)
            _write(log, record)
            for warning in health.check(chunks):
                _write(log, {"step": state.step, "warning": warning})
                reporter.say(f"router health, {warning}", "yellow")
        reporter.advance(state.step, record)
        _check_finite(run, result, reporter)
        if config.validation.sources and (state.step % config.validation.every == 0 or is_last):
            with recorder.not_training():
                _validate(run, validator, log, reporter)
        is_best = state.step == state.best_step
        if state.step % config.checkpoints.every == 0 or is_last or is_best or (stop and last_saved != state.step):
            with recorder.not_training():
                save(run)
            last_saved = state.step
        if stop:
            return True
    return False


def loss_terms(config: RunConfig, step: int) -> LossTerms:
    """Target ratios and weight of the ratio loss at a step."""
    loss, num_steps = config.loss, config.run.num_steps
    starts = loss.start_target_ratios or loss.target_ratios
    start_weight = loss.ratio_loss_weight if loss.start_ratio_loss_weight is None else loss.start_ratio_loss_weight
    return LossTerms(
        [ramp(a, b, loss.ramp, step, num_steps) for a, b in zip(starts, loss.target_ratios, strict=True)],
        ramp(start_weight, loss.ratio_loss_weight, loss.ramp, step, num_steps),
        loss.statistics == "global",
    )


def save(run: Run) -> Path:
    """Write a checkpoint, and make the run's folder itself a model directory with these weights."""
    trainer = {
        "step": run.state.step,
        "best_step": run.state.best_step,
        "state": asdict(run.state),
        "loader": run.loader.state_dict(),
        "precision": str(run.precision).removeprefix("torch."),
        "config": _identity(run),
    }
    path = run.store.save(run.state.step, run.model.config, run.model, run.optimizer, trainer)
    if run.ranks.is_first:
        publish(path, run.directory)
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


def _open_log(run: Run) -> MetricsLog | None:
    if not run.ranks.is_first:
        return None
    run.directory.mkdir(parents=True, exist_ok=True)
    if run.config.data.tokenizer:  # a model of tokens is whole with its tokenizer beside it
        (run.directory / TOKENIZER).write_bytes(Path(run.config.data.tokenizer).read_bytes())
    logging = run.config.logging
    trackers = [open_tracker(name, logging.project, run.directory, to_table(run.config)) for name in logging.trackers]
    return MetricsLog(run.directory / "metrics.jsonl", trackers, keep_until=run.state.step if run.state.step else -1)


def _write(log: MetricsLog | None, record: dict[str, Any]) -> None:
    if log is not None:
        log.log(record)


def _check_finite(run: Run, result: StepResult, reporter: Reporter) -> None:
    state = run.state
    if result.applied:
        return
    reporter.say(f"step {state.step}: loss or gradient is not finite; the update is skipped", "yellow")
    if state.skipped_in_a_row >= run.config.run.max_skipped_in_a_row:
        newest, _ = run.store.newest()
        raise TrainingError(
            f"{state.skipped_in_a_row} updates in a row were not finite, up to step {state.step}; "
            f"the last good checkpoint is {newest or 'none yet'}. Lower optimizer.lr or lengthen schedule.warmup"
        )


def _validate(run: Run, validator: "Validator", log: MetricsLog | None, reporter: Reporter) -> None:
    measured = validator.measure()
    if run.state.best_bits_per_byte is None or measured.bits_per_byte < run.state.best_bits_per_byte:
        run.state.best_bits_per_byte, run.state.best_step = measured.bits_per_byte, run.state.step
    _write(log, {"step": run.state.step, **measured.record()})
    reporter.say(f"step {run.state.step}: {measured.bits_per_byte:.3f} bits/byte on held-out text", "bold")
    if measured.sample is not None:
        reporter.say(measured.sample)
