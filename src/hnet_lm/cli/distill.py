"""`hnet-lm distill RUN.toml --teacher MODEL`: train a model of bytes with the blocks of a model of tokens inside."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from hnet_lm.checkpoint import CONFIG, local_directory
from hnet_lm.cli.train import parse_with_run
from hnet_lm.config import HNetConfig
from hnet_lm.distillation import student_config
from hnet_lm.errors import UserError
from hnet_lm.outputs import Output
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import TerminalReporter
from hnet_lm.training.sections import ModelSource

USAGE = "name a run file, as in: hnet-lm distill english --teacher models/bpe --run.directory runs/student"
MAIN_NETWORK = "stage:1"


@dataclass(frozen=True)
class Command:
    """Train a student of a model of tokens: its blocks between an encoder and a decoder over bytes, its cuts and its
    probabilities of the next byte as targets. Everything else is a run of `hnet-lm train`, which is also how to go on
    without the teacher: --model.init-from the student."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")]
    """The run: a file, or a name that comes with hnet-lm. Its model is ignored."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """Any key of the run file."""
    teacher: str = ""
    """A saved model of tokens, as `hnet-lm import` or a training makes it."""
    width: int | None = None
    """Width of encoder and decoder; the teacher's by default."""
    encoder: str = "m4"
    decoder: str = "m4"
    freeze: bool = False
    """Do not train the teacher's blocks."""
    boundary_weight: float = 1.0
    """Weight of the cross entropy between boundaries and the first bytes of the teacher's tokens; 0: off."""
    bytes_weight: float = 1.0
    """Weight of the divergence from the teacher's next-byte probabilities; 0: off."""
    lessons: str = ""
    """A folder that caches the teacher's outputs for each batch, for later runs."""
    allow_changes: bool = False
    """Resume a run although its configuration has changed."""
    began: tyro.conf.Suppress[float | None] = None
    """When the command began, by the monotonic clock."""

    def run(self) -> None:
        if not self.teacher:
            raise UserError("distill: name the --teacher, a saved model of tokens")
        keep_freed_memory()
        train(self._of_student(), TerminalReporter(), allow_changes=self.allow_changes, began=self.began)

    def _of_student(self) -> RunConfig:
        """The run with the student as its model, which is described in a file beside the run's folder."""
        teacher = HNetConfig.load(local_directory(self.teacher, (CONFIG,)) / CONFIG)
        width = self.width or teacher.stages[-1].d_model
        student = student_config(teacher, d_model=width, encoder=self.encoder, decoder=self.decoder)
        directory = Path(self.config.run.directory)
        file = Output.tried(directory.with_name(f"{directory.name}-student.json"))
        model = ModelSource(str(file.path), main_network=self.teacher, freeze=(MAIN_NETWORK,) if self.freeze else ())
        terms = [
            {"name": "token_boundaries", "weight": self.boundary_weight, "teacher": self.teacher},
            {"name": "teacher_bytes", "weight": self.bytes_weight, "teacher": self.teacher, "cache": self.lessons},
        ]
        own = tuple(term for term in terms if term["weight"])
        ratios = self.config.loss.target_ratios if len(self.config.loss.target_ratios) == 1 else ()
        loss = dataclasses.replace(
            self.config.loss,
            terms=(*self.config.loss.terms, *own),
            target_ratios=ratios,
            start_target_ratios=self.config.loss.start_target_ratios if ratios else None,
        )
        optimizer = self.config.optimizer
        if len(optimizer.lr_multipliers or ()) != len(student.stages):
            optimizer = dataclasses.replace(optimizer, lr_multipliers=None)
        run = dataclasses.replace(self.config, model=model, loss=loss, optimizer=optimizer)
        run.for_model(student)
        file.write(json.dumps(student.to_dict(), indent=2) + "\n")
        return run


def parse(arguments: Sequence[str], cli: Callable[..., Any]) -> Command:
    """The run file gives the defaults that the other arguments change."""
    return parse_with_run(Command, arguments, cli, USAGE)
