"""`hnet-lm train RUN.toml`: train a model, or resume a run that was stopped."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.cli.architecture import read_architecture
from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.errors import UserError
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import TerminalReporter
from hnet_lm.training.sections import LoopConfig, ModelSource

USAGE = "name a run file, as in: hnet-lm train english --optimizer.lr 1e-3"

# The defaults that --help shows if no run file is named.
EXAMPLE = RunConfig(
    LoopConfig(directory="runs/NAME", num_steps=1000),
    ModelSource(config="MODEL.json"),
    DataConfig(sources=(SourceConfig(path="sample:english"),)),
)


@dataclass(frozen=True)
class Command:
    """Train a model, or resume a run that was stopped. Under torchrun, on many devices."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")]
    """The run: a file (`hnet-lm new` writes one), or a name that comes with hnet-lm, such as demo or english."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """Any key of the run file."""
    allow_changes: bool = False
    """Resume a run although its configuration has changed."""
    began: tyro.conf.Suppress[float | None] = None
    """When the command began, by the monotonic clock."""

    def run(self) -> None:
        keep_freed_memory()
        train(self.config, TerminalReporter(), allow_changes=self.allow_changes, began=self.began)


def parse(arguments: Sequence[str], cli: Callable[..., Any]) -> Command:
    """The run file gives the defaults that the other arguments change."""
    return parse_with_run(Command, arguments, cli, USAGE)


def parse_with_run(kind: Any, arguments: Sequence[str], cli: Callable[..., Any], usage: str) -> Any:
    """A command whose first two fields are a run file and its configuration, any key of which may be given."""
    first = [argument for argument in arguments[:1] if not argument.startswith("-")]
    files = first or [argument for argument in arguments if argument.endswith(".toml")]
    if not files and {"-h", "--help"} & set(arguments):
        return cli(kind, args=arguments, default=kind(Path("RUN.toml"), EXAMPLE))
    if len(files) != 1:
        raise UserError(usage)
    given = _keys(arguments)
    command = cli(kind, args=arguments, default=kind(Path(files[0]), RunConfig.load(files[0], given)))
    return dataclasses.replace(command, config=_fitted(command.config, given))


def _keys(arguments: Sequence[str]) -> set[str]:
    """The keys of the run file that are given a value, as `model.init_from` by `--model.init-from=base`."""
    return {argument[2:].partition("=")[0].replace("-", "_") for argument in arguments if argument.startswith("--")}


def _fitted(config: RunConfig, given: Collection[str]) -> RunConfig:
    """With another model than the file's: without the settings for stages that this one does not have."""
    if not {"model.config", "model.init_from"} & set(given):
        return config
    model = read_architecture(config.model.config or config.model.init_from).config
    num_learned = sum(chunker.learns for chunker in model.all_chunkers)
    loss, optimizer = config.loss, config.optimizer
    if "loss.target_ratios" not in given and len(loss.target_ratios) != num_learned:
        loss = dataclasses.replace(loss, target_ratios=(), start_target_ratios=None)
    multipliers = optimizer.lr_multipliers or ()
    if "optimizer.lr_multipliers" not in given and len(multipliers) != len(model.stages):
        optimizer = dataclasses.replace(optimizer, lr_multipliers=None)
    return dataclasses.replace(config, loss=loss, optimizer=optimizer)
