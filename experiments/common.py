"""What drivers of experiments share: commands that are printed as they run, cells that are done once, intervals."""

import contextlib
import json
import math
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from filelock import FileLock, Timeout

from hnet_lm.cli.main import main
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.run_folder import METRICS

STUDENT_T = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
"""Two-sided 95 % quantiles of Student's t for 1, 2, 3 ... degrees of freedom."""


def hnet_lm(*arguments: str) -> None:
    """Run a command as the shell would, print it first, and stop if it fails."""
    print(f"$ hnet-lm {shlex.join(arguments)}", flush=True)
    _run(arguments)


def printed(*arguments: str) -> str:
    """The same for what the command prints, which is not shown."""
    print(f"$ hnet-lm {shlex.join(arguments)}", flush=True)
    with contextlib.redirect_stdout(StringIO()) as output:
        _run(arguments)
    return output.getvalue()


def answer(*arguments: str) -> dict[str, Any]:
    """What a command prints as JSON."""
    return json.loads(printed(*arguments, "--json"))


def _run(arguments: Sequence[str]) -> None:
    code = main(arguments)
    if code:
        sys.exit(code)


def write(path: Path, text: str) -> None:
    """All at once, so that a run which is stopped here loses nothing."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text)
    partial.replace(path)


@contextlib.contextmanager
def claimed(result: Path) -> Iterator[bool]:
    """Whether a run is for this process to make: not where another one is at it, or its file of results is there."""
    result.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(result.with_name(f"{result.stem}.lock"), blocking=False)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(lock)
        except Timeout:
            yield False
        else:
            yield not result.exists()


def require_finished(run: Path, num_steps: int) -> None:
    """End the driver where the training was stopped: what it came to by then is never measured."""
    if max(record["step"] for record in read_metrics(run / METRICS)) < num_steps:
        sys.exit(f"{run} is not finished; the same command goes on")


def markdown(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; nothing where it would have no rows."""
    if not rows:
        return ""
    lines = [headings, ["---", *["--:"] * (len(headings) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def read_results(path: Path) -> dict[str, Any]:
    """The cells that are done, by name."""
    return json.loads(path.read_text()) if path.exists() else {}


def write_results(path: Path, results: Mapping[str, Any]) -> None:
    write(path, json.dumps(results, indent=1) + "\n")


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds, and half of its 95 % interval; NaN with one seed."""

    mean: float
    half: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Estimate":
        num = len(values)
        t = STUDENT_T[min(num - 2, len(STUDENT_T) - 1)] if num > 1 else math.nan
        return cls(mean(values), t * stdev(values) / math.sqrt(num) if num > 1 else math.nan)

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")
