"""`hnet-lm watch RUN`: live curves and figures of a run, and the chunks of a text by the newest weights."""

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from hnet_lm import checkpoint
from hnet_lm.cli.options import require_at_least
from hnet_lm.errors import UserError
from hnet_lm.inputs import local
from hnet_lm.inspect import chunks
from hnet_lm.inspect.curve import draw_curve
from hnet_lm.inspect.terminal import render
from hnet_lm.training.metrics import MetricsReader, Record
from hnet_lm.training.progress import figures
from hnet_lm.training.run_folder import METRICS, has_ended

CURVE_HEIGHT = 8
VALIDATION = "validation/bits_per_byte"


@dataclass(frozen=True)
class Command:
    """Watch a run from another terminal until it ends; in a pipe, one line per new record."""

    directory: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="RUN")]
    """The folder of the run."""
    text: str = "It was the best of times, it was the worst of times."
    """Show how the newest weights cut this text; empty: no chunks."""
    every: float = 2.0
    """Seconds between two updates."""
    once: bool = False
    """Show the run once, without waiting for more."""

    def run(self) -> None:
        require_at_least(0.1, every=self.every)
        run = Path(local(self.directory))
        if not run.is_dir():
            raise UserError(f"{self.directory}: no such folder; name the run.directory of a run")
        if not (run / METRICS).exists():
            raise UserError(f"{self.directory}: has no {METRICS}, which a run writes from its start on")
        console = Console(highlight=False)
        if console.is_terminal:
            self._draw(run, console)
        else:
            self._print(run)

    def _draw(self, run: Path, console: Console) -> None:
        reader, picture = MetricsReader(run / METRICS), ChunkPicture(run, self.text)
        with Live(console=console, auto_refresh=False, transient=False, vertical_overflow="crop") as live:
            while True:
                has_ended_before = has_ended(run)  # then what it wrote last is read now
                records = reader.read()
                live.update(screen(run, records, picture.lines(console.width), console, has_ended_before), refresh=True)
                if self.once or has_ended_before:
                    return
                time.sleep(self.every)

    def _print(self, run: Path) -> None:
        reader, num_printed, last_step = MetricsReader(run / METRICS), 0, -1
        while True:
            has_ended_before = has_ended(run)
            records = reader.read()
            if len(records) < num_printed:  # the run went on from an earlier checkpoint
                num_printed = sum(record["step"] <= last_step for record in records)
            for line in lines(records[num_printed:]):
                print(line, flush=True)
            num_printed, last_step = len(records), records[-1]["step"] if records else -1
            if self.once or has_ended_before:
                return
            time.sleep(self.every)


def lines(records: Sequence[Record]) -> Iterator[str]:
    """A line for each record."""
    for record in records:
        if "warning" in record:
            yield f"step {record['step']}  router health, {record['warning']}"
        elif isinstance(record.get(VALIDATION), float):
            yield f"step {record['step']}  {record[VALIDATION]:.3f} bits/byte on held-out text"
        elif record.get("loss", record.get("superposition/loss")) is not None:
            yield f"step {record['step']}  {figures(record)}"
        elif record.get("skipped"):
            yield f"step {record['step']}  not finite, skipped"


def screen(
    run: Path, records: Sequence[Record], chunk_lines: Sequence[Text], console: Console, has_ended: bool
) -> RenderableType:
    """A summary of the run, as wide as the terminal."""
    updates = [record for record in records if record.get("loss") is not None]
    held_out = [record for record in records if isinstance(record.get(VALIDATION), float)]
    last_lines = list(lines(records[-1:] if records else []))
    parts: list[RenderableType] = [
        Text(f"{run}{'  (ended)' if has_ended else ''}", style="bold"),
        *map(Text, last_lines),
    ]
    series: list[tuple[str, list[tuple[float, float]]]] = [
        ("bits per byte, training", [(record["step"], record["bits_per_byte"]) for record in updates]),
        ("bits per byte, held-out text", [(record["step"], record[VALIDATION]) for record in held_out]),
    ]
    stages = [key for key in (updates[-1] if updates else {}) if key.endswith("/bytes_per_chunk")]
    series += [
        (f"bytes per chunk, {key.partition('/')[0]}", [(r["step"], r[key]) for r in updates if key in r])
        for key in stages
    ]
    encoding = console.encoding
    for number, (name, points) in enumerate(series):
        if len(points) > 1:
            height = CURVE_HEIGHT if number == 0 else CURVE_HEIGHT // 2
            steps, values = zip(*points, strict=True)
            curve = draw_curve(steps, values, console.width, height, encoding=encoding)
            parts += ["", Text(f"{name}, step {points[0][0]:g} to {points[-1][0]:g}", style="dim"), *map(Text, curve)]
    for record in [record for record in records if "warning" in record][-1:]:
        parts += ["", Text(f"router health at step {record['step']}, {record['warning']}", style="yellow")]
    if chunk_lines:
        parts += ["", Text("chunks of the newest weights", style="dim"), *chunk_lines]
    return Group(*parts)


class ChunkPicture:
    """How the weights in the run's folder cut a text; drawn again when they change."""

    def __init__(self, run: Path, text: str) -> None:
        self._weights = run / checkpoint.WEIGHTS
        self._run = run
        self._text = text
        self._drawn: tuple[tuple[int, int], list[Text]] | None = None

    def lines(self, width: int) -> list[Text]:
        """None for a model that reads tokens or does not chunk, and before the first checkpoint."""
        if not self._text or not self._weights.exists():
            return []
        key = (self._weights.stat().st_mtime_ns, width)
        if self._drawn is None or self._drawn[0] != key:
            self._drawn = (key, self._draw(width))
        return self._drawn[1]

    def _draw(self, width: int) -> list[Text]:
        try:
            model = checkpoint.load(self._run)
        except UserError:  # it is being replaced at this moment
            return []
        if model.config.reads_tokens or not model.config.num_stages:
            return []
        return list(render(chunks(model, self._text), min(width, 100), encoding=sys.stdout.encoding or "ascii"))
