"""What a person sees of a run, and of anything else that takes a while.

Of a run a live line where there is a terminal, plain lines where there is none.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from hnet_lm.training.metrics import Record

PLAIN_LINE_EVERY = 10.0
PATIENCE = 5.0
"""Seconds after which whoever waits is told what for."""

Say = Callable[[str], None]


class Meter:
    """Counts what is done of something long, and says so: first after `PATIENCE`, then every ten seconds."""

    def __init__(self, what: str, say: Say, total: int | None = None) -> None:
        self.total = total
        self._what = what
        self._say = say
        self._count = 0
        self._began = monotonic()
        self._next = self._began + PATIENCE

    def advance(self, num_bytes: int) -> None:
        """So many more are done."""
        self._count += num_bytes
        now = monotonic()
        if now >= self._next:
            self._next = now + PLAIN_LINE_EVERY
            share = f" ({min(1.0, self._count / self.total):.0%})" if self.total else ""
            speed = self._count / (now - self._began) / 1e3
            self._say(f"{self._what}: {self._count / 1e6:.2f} M{share}, {speed:.1f} k/s")


@contextmanager
def waiting(what: str, say: Say) -> Iterator[None]:
    """Say, after `PATIENCE` and then every ten seconds, what the block is busy with: for what cannot be counted."""
    done, began = threading.Event(), monotonic()

    def tell() -> None:
        patience = PATIENCE
        while not done.wait(patience):
            say(f"{what}: {monotonic() - began:.0f} s")
            patience = PLAIN_LINE_EVERY

    thread = threading.Thread(target=tell, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


class Reporter(Protocol):
    """Whoever is told how a run goes."""

    def start(self, step: int, num_steps: int) -> None: ...

    def expect(self, num_steps: int) -> None:
        """The number of steps in all, as far as it is known."""

    def advance(self, step: int, record: Record | None) -> None:
        """After every update; with a record where one was written."""

    def say(self, message: str, style: str = "") -> None: ...

    def close(self) -> None: ...


class Silent:
    """Tells nobody: ranks other than the first, and tests."""

    def start(self, step: int, num_steps: int) -> None:
        pass

    def expect(self, num_steps: int) -> None:
        pass

    def advance(self, step: int, record: Record | None) -> None:
        pass

    def say(self, message: str, style: str = "") -> None:
        pass

    def close(self) -> None:
        pass


class TerminalReporter:
    """A progress bar with the figures people watch; without a terminal, a line every ten seconds."""

    def __init__(self, console: Console | None = None):
        self.console = console or Console()
        self._last_line = 0.0
        self._num_steps = 0
        self._progress = Progress(
            TextColumn("[bold]step {task.completed}/{task.total}"),
            BarColumn(bar_width=20),
            TextColumn("{task.fields[figures]}"),
            TimeRemainingColumn(compact=True),
            console=self.console,
            disable=not self.console.is_terminal,
        )

    def start(self, step: int, num_steps: int) -> None:
        self._num_steps = num_steps
        self._task = self._progress.add_task("train", total=num_steps, completed=step, figures="")
        self._progress.start()

    def expect(self, num_steps: int) -> None:
        self._num_steps = num_steps

    def advance(self, step: int, record: Record | None) -> None:
        self._progress.update(self._task, completed=step, total=self._num_steps)
        if record is None:
            return
        self._progress.update(self._task, figures=figures(record))
        now = monotonic()
        is_due = now - self._last_line >= PLAIN_LINE_EVERY or step == self._num_steps
        if not self.console.is_terminal and is_due:
            self._last_line = now
            self.console.print(f"step {step}/{self._num_steps}  {figures(record)}", highlight=False, markup=False)

    def say(self, message: str, style: str = "") -> None:
        self.console.print(message, style=style or None, highlight=False, markup=False)

    def close(self) -> None:
        self._progress.stop()


def figures(record: Record) -> str:
    """The record in one line: bits per byte, bytes per chunk of every stage, speed, utilisation."""
    if "bits_per_byte" in record:
        parts = [f"{record['bits_per_byte']:.3f} bits/byte"]
    else:
        parts = [f"{record['superposition/loss']:.3f} nats, bags of {record['superposition/bag_size']}"]
    lengths = [f"{value:.1f}" for key, value in record.items() if key.endswith("/bytes_per_chunk")]
    if lengths:
        parts.append(" > ".join(lengths) + " bytes/chunk")
    parts.append(f"{record['bytes_per_second'] / 1e3:.1f} kB/s")
    for key, of in (("mfu", "data sheet"), ("matmul_utilization", "matmul peak")):
        if record.get(key) is not None:
            parts.append(f"{record[key]:.0%} of {of}")
            break
    return "  ".join(parts)
