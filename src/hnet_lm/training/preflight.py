"""What a run will need is tried before its first update, so that nothing is missing after hours.

Tried for real: a file is written into the folder, a batch is read, the validation measures a little of each of its
sources and writes its sample. What cannot be tried, as how long the disk stays free, is reckoned.
"""

import shutil
from pathlib import Path

from hnet_lm.checkpoint import HUB_PREFIX
from hnet_lm.data.files import paths_of
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.inputs import STANDARD_INPUT, is_pipe, is_remote
from hnet_lm.training.config import RunConfig
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.machine import describe_products
from hnet_lm.training.metrics import tracker_module
from hnet_lm.training.progress import Reporter
from hnet_lm.training.run import Run, directory_of
from hnet_lm.training.run_folder import CHECKPOINTS
from hnet_lm.training.validation import Validator

MOMENTS = 2  # of AdamW: the mean of the gradient and of its square, each as large as the weights


def check_sources_of_weights(config: RunConfig) -> None:
    """Raises ConfigError where the run would write over the model that it starts from."""
    directory = directory_of(config).resolve()
    for key in ("init_from", "byte_model", "main_network"):
        name = getattr(config.model, key)
        if not name or name.startswith(HUB_PREFIX):
            continue
        path = Path(name).resolve()
        if path == directory or directory / CHECKPOINTS in path.parents:
            raise ConfigError(
                f"model.{key}: {name} is in run.directory, and the run would replace it; take another run.directory"
            )


def check_validation_sources(config: RunConfig) -> None:
    """Raises DataError for what can be read only once: every validation reads it anew."""
    for source in config.validation.sources:
        for path in [] if source.path.startswith(HUB_PREFIX) else paths_of(source):
            if path == STANDARD_INPUT or (not is_remote(path) and is_pipe(path)):
                raise DataError(
                    f"validation.sources: {source.path} is a pipe, which can be read only once, and every validation "
                    "reads it; save its text to a file first"
                )


def check_run(run: Run, validator: Validator, reporter: Reporter) -> None:
    """Try what the run will need beyond its folder and its data. Raises a UserError; all ranks call this together."""
    loop = run.config.run
    reporter.say(describe_products(loop.precision, run.precision, run.ranks.device, loop.tf32))
    for name in run.config.logging.trackers:
        tracker_module(name)
    check_validation_sources(run.config)
    run.ranks.on_first(lambda: check_room(run, reporter))
    if run.config.validation.is_on:
        validator.rehearse()


def check_room(run: Run, reporter: Reporter) -> None:
    """Raises TrainingError where the next checkpoint does not fit on the disk; says where all to be kept will not."""
    free = shutil.disk_usage(run.store.directory).free
    size, published = checkpoint_bytes(run)
    if free < size + published:
        raise TrainingError(
            f"{run.directory}: {_readable(free)} are free on its disk, but a checkpoint and the model beside it take "
            f"{_readable(size + published)}; free some, or take another run.directory"
        )
    keeps_best = run.config.validation.is_on
    keeps_start = run.config.checkpoints.before_decay and run.config.schedule.name == "wsd"
    num_kept = run.store.keep + keeps_best + keeps_start
    num_more = max(0, num_kept + 1 - len(run.store.all()))
    needed = num_more * size + published
    if free < needed:
        reporter.say(
            f"{run.directory}: {_readable(free)} are free on its disk, but the {num_kept} checkpoints that the run "
            f"keeps, and one while it is written, will take {_readable(needed)} more",
            "yellow",
        )


def checkpoint_bytes(run: Run) -> tuple[int, int]:
    """Of a checkpoint, and of the weights in it, which are published as well."""
    sizes = [(weight.numel() * weight.element_size(), weight.requires_grad) for weight in run.model.parameters()]
    weights = sum(size for size, _ in sizes)
    moments = MOMENTS * sum(size for size, is_trained in sizes if is_trained)
    averages = weights if run.averages is not None else 0
    return weights + moments + averages, weights


def _readable(num_bytes: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"
