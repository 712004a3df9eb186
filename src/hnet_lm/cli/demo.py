"""`hnet-lm demo`: train a small model on the bundled English in a few minutes, and show what it learned."""

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table

from hnet_lm import checkpoint
from hnet_lm.cli.sources import say
from hnet_lm.errors import ConfigError
from hnet_lm.evaluation import ByteScorer, bits_per_byte, compressor_bits_per_byte
from hnet_lm.evaluation.boundaries import StageBoundaries
from hnet_lm.evaluation.boundary_page import boundary_section
from hnet_lm.evaluation.boundary_report import BoundaryReport
from hnet_lm.evaluation.compressors import installed_compressors
from hnet_lm.evaluation.scorer import PassageScore
from hnet_lm.evaluation.stability import stability
from hnet_lm.generation import generate
from hnet_lm.inspect import chunks, render_html
from hnet_lm.inspect.references import after_space_offsets, space_offsets
from hnet_lm.inspect.terminal import render
from hnet_lm.model import HNetLM
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import Meter, TerminalReporter
from hnet_lm.training.run import directory_of
from hnet_lm.training.run_folder import FIGURE, METRICS, REPORT, check_files_are_ours, replace_file
from hnet_lm.training.validation import validation_documents

HELD_OUT = "held-out text"
SHOWN_BYTES = 600
PICTURE_BYTES = 20_000
PICTURE = "chunks.html"


@dataclass(frozen=True)
class Command:
    """Train the demonstration (a stopped one is resumed) and show its figures, a sample and the chunks it learned."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")] = Path("demo")
    """The run, a file or a name; any run with validation text works."""
    output: Annotated[str, tyro.conf.arg(aliases=("-o",), metavar="FOLDER")] = ""
    """Where to write, instead of the directory in the run file."""

    def run(self) -> None:
        keep_freed_memory()
        config = RunConfig.load(self.run_file)
        if self.output:
            config = dataclasses.replace(config, run=dataclasses.replace(config.run, directory=self.output))
        console = Console(markup=False)  # texts and names may contain brackets
        _check(config)
        if train(config, TerminalReporter(console)).is_finished:
            show(config, console)


def _check(config: RunConfig) -> None:
    """Raises UserError now, and not after minutes of training, if the run cannot be shown."""
    if not config.validation.is_on:
        raise ConfigError("validation.sources: is empty, and the demonstration shows what was learned on held-out text")
    if config.data.tokenizer:
        raise ConfigError("data.tokenizer: the demonstration shows models of bytes; train this one with hnet-lm train")
    check_files_are_ours(directory_of(config), (METRICS, REPORT, FIGURE, PICTURE))


def show(config: RunConfig, console: Console) -> None:
    """Measure and draw what a finished run learned; writes the figure and the picture of the chunks."""
    directory = directory_of(config)
    model = checkpoint.load(directory)
    data = b"".join(document.data for document in validation_documents(config.validation, config.data))
    data = data[: config.validation.max_bytes]
    console.rule("bits per byte")
    report = _compare(model, config, data, console)
    console.rule("a sample")
    prompt = config.validation.sample_prompt
    (text,) = generate(model, [prompt], max_new_bytes=400, temperature=0.7, seed=1, valid_utf8=True)
    console.print(prompt, style="bold", end="", highlight=False)
    console.print(text, highlight=False)
    console.rule("the chunks it learned, on held-out text")
    shown = chunks(model, data[:SHOWN_BYTES].decode("utf-8", "ignore"))
    for line in render(shown, min(console.width, 100), encoding=console.encoding):
        console.print(line)
    for line in _judged(report, data):
        console.print(line, highlight=False)
    console.rule("written")
    _write_pictures(model, report, data, directory)
    has_figure = (directory / FIGURE).exists()
    figure = f", with {FIGURE}" if has_figure else f"; {FIGURE} needs matplotlib: pip install 'hnet-lm[plot]'"
    console.print(
        f"{directory}/               the model: hnet_lm.load({str(directory)!r})\n"
        f"{directory}/{METRICS}  loss, chunks and speed of every few steps\n"
        f"{directory}/{REPORT}      what came of it{figure}\n"
        f"{directory}/{PICTURE}    the chunks, to open in a browser",
        highlight=False,
    )


def _compare(model: HNetLM, config: RunConfig, data: bytes, console: Console) -> BoundaryReport:
    report = BoundaryReport()
    torch.manual_seed(config.run.seed)
    rows = {
        "H-Net, trained": _measure(model, data, report),
        "H-Net, untrained": _measure(HNetLM(model.config), data),
    }
    rows |= {name: compressor_bits_per_byte(data, name) for name in installed_compressors()}
    table = Table("", "bits per byte", box=None)
    for name, value in sorted(rows.items(), key=lambda row: row[1]):
        table.add_row(name, f"{value:.3f}", style="bold" if name == "H-Net, trained" else None)
    console.print(table)
    return report


def _measure(model: HNetLM, data: bytes, report: BoundaryReport | None = None) -> float:
    is_judged = report is not None
    meter = Meter("bytes scored", say)
    scorer = ByteScorer(model, unit_starts=is_judged, byte_logprobs=is_judged, on_positions=meter.advance)

    def judge(domain: str, document: bytes, score: PassageScore) -> None:
        if report is not None:
            report.add(domain, document, score, _references(document))

    with torch.no_grad():
        return bits_per_byte(scorer, {HELD_OUT: [data]}, judge).value


def _references(document: bytes) -> dict[str, np.ndarray]:
    """The references for the cuts of text; other data may have none."""
    spaces = space_offsets(document)
    return {"spaces": spaces, "after spaces": after_space_offsets(document)} if len(spaces) else {}


def _judged(report: BoundaryReport, data: bytes) -> Iterator[str]:
    """Whether the chunks of each stage are meaningful, compared with chance."""
    anywhere = StageBoundaries()
    anywhere.add(data, np.arange(len(data)))
    for found in report.domains.values():
        for number, (stage, enriched) in enumerate(zip(found.stages, found.enrichments, strict=True)):
            cuts = stage.boundaries
            yield (
                f"stage {number}: {cuts.bytes_per_chunk:.2f} bytes per chunk. "
                f"{cuts.space_share + cuts.word_share:.0%} of the chunks start at a word "
                f"({cuts.space_share:.0%} at the space before one, {cuts.word_share:.0%} at its first letter); "
                f"{anywhere.space_share + anywhere.word_share:.0%} of all bytes are such places."
            )
            yield (
                f"stage {number}: the byte after a chunk start takes {enriched.value:.2f} times the bits of the mean "
                f"byte (boundary enrichment B; {enriched.null_low:.2f} to {enriched.null_high:.2f} by chance)."
            )


def _write_pictures(model: HNetLM, report: BoundaryReport, data: bytes, directory: Path) -> None:
    found = chunks(model, data[:PICTURE_BYTES].decode("utf-8", "ignore"))
    facts = report.to_json()
    for stages in facts.values():
        for stage, of_stage in zip(stages, stability(model, [data]), strict=True):
            stage["stability"] = of_stage.to_json()
    page = render_html(found, "Chunks of held-out text", boundaries=boundary_section(facts))
    replace_file(directory / PICTURE, page.encode())
