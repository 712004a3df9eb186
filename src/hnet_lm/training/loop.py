"""The run: build everything, go on from the newest checkpoint if there is one, then update, log, validate, save.

Read `train` first; what it calls is in the order of its calls. The parts of a run are in `run.py`; an update is in
`step.py`.
"""

import contextlib
import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager
from time import monotonic
from typing import Any, Literal

from hnet_lm.data import Batch
from hnet_lm.losses import parse_terms
from hnet_lm.training.beginning import begin
from hnet_lm.training.budget import plan_length, propose, revise, settle
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks, ranks
from hnet_lm.training.errors import CannotWrite, TrainingError
from hnet_lm.training.freed_memory import give_back_freed_memory
from hnet_lm.training.health import RouterHealth
from hnet_lm.training.machine import float32_products
from hnet_lm.training.metrics import MetricsLog
from hnet_lm.training.optimizer import set_learning_rate
from hnet_lm.training.plan import Pace
from hnet_lm.training.preflight import check_run, check_sources_of_weights
from hnet_lm.training.progress import Reporter, Silent, waiting
from hnet_lm.training.records import Recorder
from hnet_lm.training.report import write_report
from hnet_lm.training.restoring import restore_random_states
from hnet_lm.training.resuming import resume
from hnet_lm.training.run import Run, TrainState, build, directory_of, finish_saving, save
from hnet_lm.training.run_folder import ADAPTER, WRITTEN, RunFolder
from hnet_lm.training.signals import StopSignals
from hnet_lm.training.step import StepResult, boundary_fractions, update
from hnet_lm.training.terms import memories_of, ratio_loss_at, remembered
from hnet_lm.training.validation import Validator


def train(
    config: RunConfig, reporter: Reporter | None = None, *, allow_changes: bool = False, began: float | None = None
) -> TrainState:
    """Train, or go on training, until the last step or a signal. Returns how far the run is.

    The time of `run.minutes` counts from `began` (of `time.monotonic`), or from the call.

    Raises ConfigError if the run in that folder was started with another configuration (unless `allow_changes`), and
    TrainingError if another process is at work in the folder, if the folder holds what no run wrote or cannot be
    written, or if too many updates in a row are not finite. An error before the first update leaves the folder as it
    was.
    """
    began = monotonic() if began is None else began
    with StopSignals() as signals, ranks() as group, contextlib.ExitStack() as at_work:
        reporter = reporter if reporter is not None and group.is_first else Silent()
        check_sources_of_weights(config)
        folder = RunFolder(directory_of(config), (*WRITTEN, ADAPTER) if config.lora.is_on else WRITTEN)

        def enter() -> None:
            at_work.enter_context(folder)

        group.on_first(enter)
        at_work.enter_context(float32_products(config.run.tf32))
        for line in folder.history():
            reporter.say(line, "yellow")
        return _train(config, group, began, folder, reporter, signals, allow_changes)


def _train(
    config: RunConfig,
    group: Ranks,
    began: float,
    folder: RunFolder,
    reporter: Reporter,
    signals: StopSignals,
    allow_changes: bool,
) -> TrainState:
    with waiting("building the model and looking through the data", reporter.say):
        run = build(config, group, began)
    try:
        with waiting("reading the newest checkpoint", reporter.say):
            resume(run, reporter, allow_changes)
        validator = Validator(run.model, run.config, run.ranks, run.precision, reporter.say)
        updates = run.micro_batches()
        pace = None if run.asked.run.minutes is None else Pace(run.asked)
        if not run.is_finished:
            with waiting("trying what the run will need", reporter.say):
                check_run(run, validator, reporter)
            with waiting("filling the shuffle buffers with data", reporter.say):
                first = next(updates)
            updates = itertools.chain([first], updates)
            if pace is not None:
                with waiting("measuring updates", reporter.say):
                    plan_length(run, pace, first)
        log = begin(run, folder, reporter)
        with contextlib.nullcontext() if log is None else log:
            reporter.start(run.state.step, run.config.num_steps)
            try:
                stopped = _run(run, log, updates, validator, reporter, signals, pace)
                finish_saving(run)
            finally:
                reporter.close()
        if run.config.logging.report:
            run.ranks.on_first(lambda: _report(run, reporter))
    except CannotWrite as error:
        raise TrainingError(f"{error}; {run.standing()}") from error
    finally:
        run.close()
    run.state.num_steps = run.config.num_steps
    if stopped:
        reporter.say(f"stopped and saved at step {run.state.step}; the same command goes on from there", "yellow")
    elif pace is not None and run.state.plan is not None:
        again = run.state.plan.options(run.asked)
        reporter.say(f"{run.state.step} steps in {run.elapsed:.1f} of {pace.seconds:g} s; the same run again: {again}")
    return run.state


def _report(run: Run, reporter: Reporter) -> None:
    note = write_report(run)
    if note:
        reporter.say(note, "yellow")


def _run(
    run: Run,
    log: MetricsLog | None,
    updates: Iterator[list[Batch]],
    validator: Validator,
    reporter: Reporter,
    signals: StopSignals,
    pace: Pace | None,
) -> bool:
    """The loop; whether a signal ended it, on this rank or another."""
    config, state = run.config, run.state
    recorder = Recorder(run.model.config, config.data.max_length, run.precision, run.ranks, tf32=config.run.tf32)
    added_terms = parse_terms(config.loss.terms)
    health = RouterHealth(config.target_ratios(run.model.config))
    if run.last_good is not None:
        restore_random_states(run.last_good, run.ranks)
    if run.validation_is_due:  # something kept it from being made before this step was saved
        _validate(run, validator, log, reporter)
        save(run)
    while not run.is_finished:
        if pace is not None:
            with recorder.not_training():
                if settle(run, pace, validator):
                    reporter.say(f"step {state.step}: from here on {run.config.num_steps} steps in all are settled")
        if config.checkpoints.before_decay and run.decay_begins:
            state.decay_step = state.step
            if run.saved_step != state.step:
                with recorder.not_training(), _timed(pace, "checkpoint"):
                    save(run)
        started = monotonic()
        config = run.config
        rate = config.optimizer.lr * config.schedule.factor(state.step, config.num_steps)
        set_learning_rate(run.optimizer, rate)
        terms = [ratio_loss_at(config, state.step), *added_terms]
        memories = memories_of(terms, state.term_memories)
        progress = state.step / config.num_steps
        with _step_kept(run, reporter):
            batches = next(updates)
        max_grad_norm = config.optimizer.max_grad_norm
        result = update(
            run.network, run.optimizer, batches, terms, max_grad_norm, run.precision, run.ranks, progress, memories
        )
        if result.applied and any(memories):
            state.term_memories = remembered(terms, memories, boundary_fractions(result, run.ranks))
        proposed = 0 if pace is None or not run.ranks.is_first else propose(run, pace, state.step + 1)
        num_bytes, num_signals, proposed = run.ranks.sum_of(result.num_bytes, signals.received is not None, proposed)
        run.advance(result, int(num_bytes))
        revise(run, int(proposed))
        recorder.count(int(num_bytes))
        is_last, stop = run.is_finished, num_signals > 0
        with _step_kept(run, reporter):
            record = None
            if state.step % config.logging.every == 0 or is_last or not result.applied:
                record, chunks = recorder.record(result, state.step, state.bytes_seen, rate, run.bag_size)
                _write(log, record)
                for warning in health.check(chunks):
                    _write(log, {"step": state.step, "warning": warning})
                    reporter.say(f"router health, {warning}", "yellow")
            reporter.expect(run.config.num_steps)
            reporter.advance(state.step, record)
        if pace is not None:
            pace.update_took(monotonic() - started, state.step)
        _check_finite(run, result, reporter)
        if run.validation_is_due:
            with recorder.not_training(), _timed(pace, "validation"):
                _validate(run, validator, log, reporter)
        is_best = state.step == state.best_step
        is_due = state.step % config.checkpoints.every == 0 or is_last or is_best or stop
        if is_due and run.saved_step != state.step:
            with recorder.not_training(), _timed(pace, "checkpoint"):
                if log is not None:
                    with _step_kept(run, reporter):
                        log.flush()
                save(run)
        if stop:
            return True
    return False


def _timed(pace: Pace | None, what: Literal["validation", "checkpoint"]) -> AbstractContextManager[None]:
    return contextlib.nullcontext() if pace is None else pace.timed(what)


def _validate(run: Run, validator: Validator, log: MetricsLog | None, reporter: Reporter) -> None:
    """Measure held-out text. If that fails on any rank, all save this step before the error goes on."""
    try:
        with run.averaged():
            measured = validator.measure()
            give_back_freed_memory()
    except Exception:  # of any kind, and on every rank
        _keep_step(run, reporter)
        raise
    state = run.state
    if state.best_bits_per_byte is None or measured.bits_per_byte < state.best_bits_per_byte:
        state.best_bits_per_byte, state.best_step = measured.bits_per_byte, state.step
    state.validated_step = state.step
    with _step_kept(run, reporter):
        _write(log, {"step": state.step, **measured.record()})
        reporter.say(f"step {state.step}: {measured.bits_per_byte:.3f} bits/byte on held-out text", "bold")
        if measured.sample is not None:
            reporter.say(measured.sample)


@contextlib.contextmanager
def _step_kept(run: Run, reporter: Reporter) -> Iterator[None]:
    """An error in the block (data, metrics, terminal) ends the run, but not before the updates made so far are saved.

    With several ranks it is the error of one, and the others would not join in: then the last checkpoint counts.
    """
    try:
        yield
    except Exception:  # of any kind, and it goes on: the step is kept first
        if run.ranks.num_ranks == 1:
            _keep_step(run, reporter)
        raise


def _keep_step(run: Run, reporter: Reporter) -> None:
    if run.saved_step == run.state.step:
        return
    try:
        path = save(run)
        finish_saving(run)
    except CannotWrite as error:
        reporter.say(f"step {run.state.step} could not be saved: {error}", "yellow")
    else:
        reporter.say(f"step {run.state.step} is saved in {path}", "yellow")


def _check_finite(run: Run, result: StepResult, reporter: Reporter) -> None:
    state = run.state
    if result.applied:
        return
    reporter.say(f"step {state.step}: loss or gradient is not finite; the update is skipped", "yellow")
    if state.skipped_in_a_row >= run.config.run.max_skipped_in_a_row:
        raise TrainingError(
            f"{state.skipped_in_a_row} updates in a row were not finite, up to step {state.step}; "
            f"the last good checkpoint is {run.last_good or 'none yet'}. Lower optimizer.lr or lengthen schedule.warmup"
        )


def _write(log: MetricsLog | None, record: dict[str, Any]) -> None:
    if log is not None:
        log.log(record)
