"""`hnet-lm sweep RUN.toml --set KEY=V1,V2 ...`: a run for every combination of values, and a table of them."""

import itertools
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from hnet_lm.cli.main import parse_command
from hnet_lm.cli.tables import print_table, rounded
from hnet_lm.errors import UserError
from hnet_lm.inputs import local
from hnet_lm.outputs import OutputFolder
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.progress import TerminalReporter
from hnet_lm.training.run import is_finished
from hnet_lm.training.run_folder import METRICS

TABLE, JOBS = "sweep.md", "sweep.sh"
VALIDATION = "validation/bits_per_byte"
HEADINGS = ("run", "steps", "held out", "training", "bytes/chunk", "state")


@dataclass(frozen=True)
class Command:
    """Train a run file once for every combination of values of some of its keys. A stopped sweep is resumed."""

    run_file: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN.toml")]
    """The run that is varied: a file, or a name that comes with hnet-lm."""
    set: tuple[str, ...]
    """KEY=V1,V2,...: a key of the run file and its values, as in optimizer.lr=1e-3,2e-3. The values of a list are
    separated by spaces within one value: loss.target_ratios='3 3,6 6'."""
    output: Annotated[str | None, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = None
    """Where the folders of the runs are; by default the run file's own folder with -sweep appended."""
    slurm: bool = False
    """Do not train: write an array job for Slurm, one task per run."""
    table: bool = False
    """Do not train: show the results of the runs so far."""

    def run(self) -> int:
        runs = combinations(self.run_file, self.set, self.output)
        folder = runs[0].directory.parent
        if self.slurm:
            OutputFolder.tried(folder).write({JOBS: array_job(runs, folder)})
            print(f"{folder / JOBS}: {len(runs)} tasks; sbatch {folder / JOBS}, and afterwards the table with --table")
            return 0
        failed: dict[str, str] = {}
        if not self.table:
            keep_freed_memory()
            failed = train_all(runs)
        rows = [row_of(run, failed) for run in runs]
        print_table(HEADINGS, rows, text_columns=(0, 5))
        if folder.is_dir():
            OutputFolder.tried(folder).write({TABLE: markdown(HEADINGS, rows)})
        return 1 if failed else 0


@dataclass(frozen=True)
class SweptRun:
    """One combination: its folder, and how `hnet-lm train` is called for it."""

    name: str
    directory: Path
    arguments: tuple[str, ...]


def combinations(run_file: str, settings: Sequence[str], directory: str | None) -> list[SweptRun]:
    """Every combination of the values, the last key changing fastest; each is a valid run. Raises UserError."""
    values = dict(_setting(setting) for setting in settings)
    if len(values) < len(settings):
        raise UserError("--set names a key twice; give all its values at once, as in optimizer.lr=1e-3,2e-3")
    own = Path(local(_parsed([run_file]).run.directory))
    parent = own.with_name(f"{own.name}-sweep") if directory is None else Path(local(directory))
    runs = []
    for number, chosen in enumerate(itertools.product(*values.values())):
        pairs = dict(zip(values, chosen, strict=True))
        named = (f"{key.rpartition('.')[2]}={_file_name(value)}" for key, value in pairs.items())
        name = "-".join([f"{number:02d}", *named])
        options = [part for key, value in pairs.items() for part in (_option(key), *value.split())]
        arguments = (run_file, *options, "--run.directory", str(parent / name))
        _parsed(arguments)
        runs.append(SweptRun(name, parent / name, arguments))
    return runs


def train_all(runs: Sequence[SweptRun]) -> dict[str, str]:
    """Train one after the other; finished runs take no time. Returns the errors of failed runs, by name."""
    failed = {}
    for number, run in enumerate(runs):
        reporter = TerminalReporter()
        reporter.say(f"{run.name}, run {number + 1} of {len(runs)}", "bold")
        try:
            state = train(_parsed(run.arguments), reporter)
        except UserError as error:
            failed[run.name] = str(error)
            reporter.say(f"{run.name}: {error}", "red")
            continue
        if not state.is_finished:
            reporter.say("the sweep is stopped; the same command resumes it", "yellow")
            break
    return failed


def row_of(run: SweptRun, failed: Mapping[str, str]) -> list[str]:
    """The result of a run, from its metrics."""
    records = read_metrics(run.directory / METRICS)
    updates = [record for record in records if record.get("loss", record.get("superposition/loss")) is not None]
    held_out = [record[VALIDATION] for record in records if isinstance(record.get(VALIDATION), float)]
    if not updates:
        return [run.name, "", "", "", "", f"failed: {failed[run.name]}" if run.name in failed else "not begun"]
    last = updates[-1]
    sizes = [f"{value:.2f}" for key, value in last.items() if key.endswith("/bytes_per_chunk")]
    figures = [rounded(min(held_out, default=None)), rounded(last.get("bits_per_byte")), " > ".join(sizes)]
    state = "finished" if is_finished(run.directory) else "to go on"
    return [run.name, f"{last['step']:,}", *figures, f"failed: {failed[run.name]}" if run.name in failed else state]


def array_job(runs: Sequence[SweptRun], folder: Path) -> str:
    """A script for sbatch, in which each task trains one run; the signal before the time limit lets it save."""
    lines = [
        "#!/bin/bash",
        f"#SBATCH --job-name={_file_name(folder.name)}",
        f"#SBATCH --array=0-{len(runs) - 1}",
        f"#SBATCH --output={folder / 'slurm-%A_%a.out'}",
        "#SBATCH --requeue",
        "#SBATCH --signal=TERM@120",
        "# Partition, GPUs, cores and time are yours to add. Submitted again, every run resumes where it stopped.",
        "",
        'case "$SLURM_ARRAY_TASK_ID" in',
        *(f"  {number}) set -- {shlex.join(run.arguments)} ;;" for number, run in enumerate(runs)),
        "esac",
        'exec srun hnet-lm train "$@"',
    ]
    return "\n".join(lines) + "\n"


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The table in Markdown."""
    cells = [headings, ["---"] * len(headings), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', '/') for cell in row)} |\n" for row in cells)


def _setting(text: str) -> tuple[str, list[str]]:
    key, _, values = text.partition("=")
    found = [value.strip() for value in values.split(",")]
    if not re.fullmatch(r"[a-z_]+(\.[a-z_0-9]+)+", key.replace("-", "_")) or not all(found):
        raise UserError(f"--set {text}: must be KEY=V1,V2,... with a key of the run file, as in optimizer.lr=1e-3,2e-3")
    if key.replace("-", "_") == "run.directory":
        raise UserError("--set run.directory: every run has a folder of its own; say where with --output")
    return key.replace("-", "_"), found


def _option(key: str) -> str:
    return f"--{key.replace('_', '-')}"


def _file_name(text: str) -> str:
    return re.sub(r"[^\w.+-]+", "_", text)


def _parsed(arguments: Sequence[str]) -> RunConfig:
    """The run of a combination. Raises UserError for a key or a value that does not fit."""
    return parse_command("train", list(arguments)).config
