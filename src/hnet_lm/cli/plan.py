"""`hnet-lm plan RUN.toml --gpus 16 --gpu h100`: what a run needs on each rank, before it is started."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro

from hnet_lm.cli.architecture import Architecture, read_architecture
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.tables import print_table
from hnet_lm.cli.terminal import print_json
from hnet_lm.cli.train import parse_with_run
from hnet_lm.training.config import RunConfig
from hnet_lm.training.footprint import Footprint, footprint
from hnet_lm.training.gpus import GPUS, Gpu

USAGE = "name a run file, as in: hnet-lm plan large_1stage --gpus 16 --gpu h100"
PAPER_POSITIONS = 256 * 8192
"""Positions per update in the paper."""
USABLE = 0.9
"""Usable share of a GPU's memory: the rest is for the driver, libraries and fragmentation."""


@dataclass(frozen=True)
class Command:
    """What a run needs on each rank: memory, network traffic, FLOPs and hours. Nothing is read or trained."""

    run_file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="RUN.toml")]
    """The run: a file, or a name that comes with hnet-lm, such as large_1stage."""
    config: Annotated[RunConfig, tyro.conf.arg(name="")]
    """Any key of the run file."""
    gpus: int = 1
    """Ranks, each with a GPU of its own."""
    gpu: Literal["a100-40", "a100", "h100-pcie", "h100", "h200", "b200", "l40s", "rtx4090", "mi300x"] = "h100"
    """What each of them is."""
    utilization: float = 0.4
    """Share of the data sheet's peak to assume for the hours."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        require_at_least(1, gpus=self.gpus)
        require_at_least(0.001, utilization=self.utilization)
        model = read_architecture(self.config.model.config or self.config.model.init_from)
        run = self.config.for_model(model.config)
        found = Architecture(str(self.run_file), model.config, run)
        bytes_per_chunk, origin = found.bytes_per_chunk
        gpu = next(gpu for gpu in GPUS if gpu.name == self.gpu)
        precision = torch.float32 if run.run.precision == "float32" else torch.bfloat16
        figures = footprint(run, model.config, bytes_per_chunk, precision, self.gpus)
        seconds = figures.seconds_per_step(gpu.peak(precision, run.run.tf32), self.utilization)
        hours = None if run.run.num_steps is None else seconds * run.run.num_steps / 3600
        notes = list(_warnings(run, figures, gpu))
        if self.json:
            print_json({**asdict(figures), "seconds_per_step": seconds, "hours": hours, "warnings": notes}, indent=2)
            return
        chunks = ", ".join(f"{size:g}" for size in bytes_per_chunk)
        of_chunks = f", chunks of {chunks} bytes ({origin})" if chunks else ""
        print(f"{self.run_file}: {self.gpus} x {gpu.name}, {run.distributed.strategy}{of_chunks}\n")
        print_table(("of each rank", "", ""), _rows(figures, gpu), text_columns=(0, 2))
        print_table(
            ("of the run", "", ""), _totals(figures, seconds, hours, self.utilization, run), text_columns=(0, 2)
        )
        for note in notes:
            print(f"warning: {note}")


def parse(arguments: Sequence[str], cli: Callable[..., Any]) -> Command:
    """The run file gives the defaults that the other arguments change."""
    return parse_with_run(Command, arguments, cli, USAGE)


def _rows(found: Footprint, gpu: Gpu) -> Iterator[tuple[str, str, str]]:
    used, other = "as the run has it", "not as the run has it"
    yield "weights, float32", _size(found.weights), ""
    yield "gradients", _size(found.gradients), "whole between micro-batches" if found.gradients > found.weights else ""
    yield "moments of the optimizer", _size(found.moments), ""
    if found.averages:
        yield "averaged weights", _size(found.averages), ""
    yield "gathered and rounded weights, buckets", _size(found.gathered), ""
    yield "activations, kept", _size(found.activations), other if found.recomputes else used
    yield "activations, recomputed", _size(found.recomputed_activations), used if found.recomputes else other
    yield "peak", _size(found.peak), f"{found.peak / gpu.memory:.0%} of {_size(gpu.memory)}"
    yield "shuffle buffers, on the host", _size(found.data), ""
    yield "sent over the network per update", _size(found.network_per_step), ""


def _totals(
    found: Footprint, seconds: float, hours: float | None, utilization: float, run: RunConfig
) -> Iterator[tuple[str, str, str]]:
    share = found.positions_per_step / PAPER_POSITIONS
    yield "positions per update", f"{found.positions_per_step:,}", f"{share:.3g} x the paper's {PAPER_POSITIONS:,}"
    yield "FLOPs per update", f"{found.flops_per_step:.3g}", "forward and backward"
    yield "time per update", f"{seconds:.3g} s", f"at {utilization:.0%} of the data sheet's peak"
    if hours is not None:
        num_bytes = found.positions_per_step * (run.run.num_steps or 0)
        yield "the whole run", f"{hours:,.1f} h", f"{hours * found.num_ranks:,.0f} GPU hours, {num_bytes:,} positions"


def _warnings(run: RunConfig, found: Footprint, gpu: Gpu) -> Iterator[str]:
    if found.peak > USABLE * gpu.memory:
        saved = found.activations - found.recomputed_activations
        advice = []
        if not found.recomputes and saved > 0:
            advice.append(f"run.activation_checkpointing = true saves {_size(saved)}")
        if run.distributed.strategy == "ddp" and found.num_ranks > 1:
            advice.append('distributed.strategy = "fsdp" divides weights, gradients and moments by the ranks')
        advice.append("a smaller data.tokens_per_batch with more run.accumulation divides the activations")
        yield f"it does not fit into {_size(USABLE * gpu.memory)} of {gpu.name}: {'; '.join(advice)}"
    streams, ranks = run.data.streams, found.num_ranks
    if streams % ranks and ranks > 1:
        yield (
            f"data.streams = {streams} is no multiple of {ranks} ranks, so several ranks read the same data; "
            f"take {ranks * max(1, round(streams / ranks))}"
        )
    sliced = [s.path for s in run.data.sources if s.path.startswith("hf:") and "[" in s.split]
    if sliced and streams > 1:
        yield f"each of {streams} streams reads all of {', '.join(sliced)}, since its split is a range of rows"


def _size(num_bytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if num_bytes >= size:
            return f"{num_bytes / size:,.1f} {unit}"
    return f"{num_bytes / 1e3:.1f} kB"
