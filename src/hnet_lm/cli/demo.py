"""`hnet-lm demo`: train a small model on the bundled English in a few minutes, and show what came of it."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from hnet_lm import checkpoint
from hnet_lm.data import DataConfig, documents
from hnet_lm.evaluation import ByteScorer, bits_per_byte, compressor_bits_per_byte
from hnet_lm.evaluation.boundaries import BoundaryStatistics
from hnet_lm.evaluation.compressors import COMPRESSORS
from hnet_lm.extras import import_leaf
from hnet_lm.generation import generate
from hnet_lm.inspect import chunks, render_html
from hnet_lm.inspect.terminal import render
from hnet_lm.model import HNetLM
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.progress import TerminalReporter

HELD_OUT = "held-out text"
SHOWN_BYTES = 600
PICTURE_BYTES = 20_000


@dataclass(frozen=True)
class Command:
    """Train the demonstration (a stopped one goes on) and show its figures, a sample and the chunks it learned."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")] = Path("configs/runs/demo.toml")
    """The run; any run with validation text will do."""
    directory: str = ""
    """Where to write, instead of what the run file says."""

    def run(self) -> None:
        config = RunConfig.load(self.run_file)
        if self.directory:
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, directory=self.directory))
        console = Console()
        _figure()  # what is not installed is said now, not after minutes of training
        if train(config, TerminalReporter(console)).step == config.run.num_steps:
            show(config, console)


def show(config: RunConfig, console: Console) -> None:
    """What a finished run learned, measured and drawn; writes the figure and the picture of the chunks."""
    directory = Path(config.run.directory)
    model = checkpoint.load(directory)
    data = b"".join(document.data for document in documents(DataConfig(sources=config.validation.sources)))
    data = data[: config.validation.max_bytes]
    console.rule("bits per byte")
    boundaries = _compare(model, config, data, console)
    console.rule("a sample")
    prompt = config.validation.sample_prompt
    (text,) = generate(model, [prompt], max_new_bytes=400, temperature=0.7, seed=1, valid_utf8=True)
    console.print(f"[bold]{prompt}[/bold]", end="", highlight=False)
    console.print(text, highlight=False, markup=False)
    console.rule("the chunks it learned, on held-out text")
    for line in render(chunks(model, data[:SHOWN_BYTES].decode("utf-8", "ignore")), min(console.width, 100)):
        console.print(line)
    for number, stage in enumerate(boundaries.domains[HELD_OUT] if boundaries.domains else []):
        console.print(
            f"stage {number}: {stage.bytes_per_chunk:.2f} bytes a chunk; of the chunk starts "
            f"{stage.word_share:.0%} are first letters of words, {stage.space_share:.0%} the space before one",
            highlight=False,
        )
    console.rule("written")
    _write_pictures(model, config, data, directory)
    console.print(
        f"{directory}/               the model: hnet_lm.load({str(directory)!r})\n"
        f"{directory}/metrics.jsonl  loss, chunks and speed of every few steps\n"
        f"{directory}/loss.png       the same as a figure\n"
        f"{directory}/chunks.html    the chunks, to open in a browser",
        highlight=False,
    )


def _compare(model: HNetLM, config: RunConfig, data: bytes, console: Console) -> BoundaryStatistics:
    boundaries = BoundaryStatistics()
    torch.manual_seed(config.run.seed)
    rows = {
        "H-Net, trained": _measure(model, data, boundaries),
        "H-Net, untrained": _measure(HNetLM(model.config), data),
    }
    rows |= {name: compressor_bits_per_byte(data, name) for name in COMPRESSORS}
    table = Table("", "bits per byte", box=None)
    for name, value in sorted(rows.items(), key=lambda row: row[1]):
        table.add_row(name, f"{value:.3f}", style="bold" if name == "H-Net, trained" else None)
    console.print(table)
    return boundaries


def _measure(model: HNetLM, data: bytes, boundaries: BoundaryStatistics | None = None) -> float:
    scorer = ByteScorer(model, unit_starts=boundaries is not None)
    with torch.no_grad():
        return bits_per_byte(scorer, {HELD_OUT: [data]}, boundaries.add if boundaries is not None else None).value


def _write_pictures(model: HNetLM, config: RunConfig, data: bytes, directory: Path) -> None:
    found = chunks(model, data[:PICTURE_BYTES].decode("utf-8", "ignore"))
    (directory / "chunks.html").write_text(render_html(found, "Chunks of held-out text"), encoding="utf-8")
    records = read_metrics(directory / "metrics.jsonl")
    _figure().save_figure(records, directory / "loss.png", config.loss.target_ratios, directory.name)


def _figure() -> ModuleType:
    return import_leaf("hnet_lm.training.figure", "plot", "hnet-lm demo")
