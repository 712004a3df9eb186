"""`hnet-lm train RUN.toml`: train a model, or go on with a run that was stopped."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.errors import UserError
from hnet_lm.training.config import LoopConfig, ModelSource, RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import TerminalReporter

USAGE = "name a run file, as in: hnet-lm train english --optimizer.lr 1e-3"

# What --help shows as defaults where no run file is named; a run file gives its own.
EXAMPLE = RunConfig(
    LoopConfig(directory="runs/NAME", num_steps=1000),
    ModelSource(config="MODEL.json"),
    DataConfig(sources=(SourceConfig(path="sample:english"),)),
)


@dataclass(frozen=True)
class Command:
    """Train a model, or go on with a run that was stopped. Under torchrun, on many devices."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")]
    """The run: a file (`hnet-lm new` writes one), or a name that comes with hnet-lm, such as demo or english."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """Any key of the run file."""
    allow_changes: bool = False
    """Go on with a run though its configuration has changed."""

    def run(self) -> None:
        keep_freed_memory()
        train(self.config, TerminalReporter(), allow_changes=self.allow_changes)


def parse(arguments: Sequence[str], cli: Callable[..., Any]) -> Command:
    """The run file gives the defaults that the other arguments change."""
    first = [argument for argument in arguments[:1] if not argument.startswith("-")]
    files = first or [argument for argument in arguments if argument.endswith(".toml")]
    if not files and {"-h", "--help"} & set(arguments):
        return cli(Command, args=arguments, default=Command(Path("RUN.toml"), EXAMPLE))
    if len(files) != 1:
        raise UserError(USAGE)
    default = Command(Path(files[0]), RunConfig.load(files[0]))
    return cli(Command, args=arguments, default=default)
