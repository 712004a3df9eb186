"""`hnet-lm info`: what a model is made of and what it costs, from its configuration alone."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from hnet_lm.checkpoint import CONFIG
from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, forward_flops_per_byte
from hnet_lm.model.sizes import parameters_by_part, state_bytes_by_part
from hnet_lm.weights import meta_model

PARTS = (
    "embedding",
    "pad_vector",
    "encoder",
    "routing",
    "main_network",
    "smoothing",
    "upsampler",
    "residual_proj",
    "decoder",
    "head",
)


@dataclass(frozen=True)
class Command:
    """Parameters, FLOPs a byte and bytes of state a sequence, by stage and part. No weights are read."""

    config: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="CONFIG")]
    """A config (JSON), or a directory that has a config.json."""
    bytes_per_chunk: Annotated[tuple[float, ...], tyro.conf.arg(metavar="BYTES ...")] = ()
    """Bytes of input a chunk of each chunking stage, outermost first. Default: about what the published models make,
    4.8 in one stage, 2.65 and 7.02 in two."""
    sequence_length: int = 8192
    """Bytes of a sequence."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights, and so of keys and values in the state."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        config = HNetConfig.load(self.config / CONFIG if self.config.is_dir() else self.config)
        bytes_per_chunk = self.bytes_per_chunk or default_bytes_per_chunk(config.num_stages)
        facts = describe(config, bytes_per_chunk, self.sequence_length, getattr(torch, self.dtype))
        if self.json:
            print(json.dumps(facts, indent=2))
        else:
            _print_tables(str(self.config), facts)


def default_bytes_per_chunk(num_stages: int) -> tuple[float, ...]:
    """What the published models make of text (paper, table 1): 4.7 to 4.8 in one stage, 6.9 to 7.0 in two."""
    return (4.8,) if num_stages == 1 else tuple(round(2.65 ** (s + 1), 2) for s in range(num_stages))


def describe(
    config: HNetConfig, bytes_per_chunk: Sequence[float], sequence_length: int, dtype: torch.dtype
) -> dict[str, Any]:
    """All figures, as `--json` prints them. Raises ConfigError for chunks that cannot be."""
    model = meta_model(config).to(dtype)
    parameters = parameters_by_part(model)
    flops = forward_flops_per_byte(config, bytes_per_chunk, sequence_length)
    state_bytes = state_bytes_by_part(model, bytes_per_chunk, sequence_length)
    keys = sorted({*parameters, *flops, *state_bytes}, key=lambda key: (key[0], PARTS.index(key[1])))
    parts = [
        {
            "stage": stage,
            "part": part,
            "layout": config.stages[stage].layouts.get(part),
            "parameters": parameters.get((stage, part), 0),
            "forward_flops_per_byte": flops.get((stage, part), 0.0),
            "training_flops_per_byte": FORWARD_AND_BACKWARD * flops.get((stage, part), 0.0),
            "state_bytes": state_bytes.get((stage, part), 0),
        }
        for stage, part in keys
    ]
    figures = ("parameters", "forward_flops_per_byte", "training_flops_per_byte", "state_bytes")
    return {
        "config": config.to_dict(),
        "bytes_per_chunk": list(bytes_per_chunk),
        "sequence_length": sequence_length,
        "dtype": str(dtype).removeprefix("torch."),
        "total": {figure: sum(part[figure] for part in parts) for figure in figures},
        "parts": parts,
    }


def _print_tables(name: str, facts: dict[str, Any]) -> None:
    config = HNetConfig.from_dict(facts["config"])
    chunks = ", ".join(f"{size:g}" for size in facts["bytes_per_chunk"])
    at = [
        f"{facts['sequence_length']} bytes a sequence",
        *([f"{chunks} bytes a chunk"] if chunks else []),
        facts["dtype"],
    ]
    table = Table(
        title=Text(f"{name}: widths {', '.join(str(stage.d_model) for stage in config.stages)}"),
        caption=f"at {', '.join(at)}\nFLOPs a byte of a forward pass, and of training; state of one sequence",
        title_justify="left",
        caption_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    table.add_column("stage")
    table.add_column("part", no_wrap=True)
    table.add_column("layout", overflow="fold")
    for heading in ("parameters", "FLOPs/byte", "training", "state"):
        table.add_column(heading, justify="right", no_wrap=True)
    for part in facts["parts"]:
        table.add_row(str(part["stage"]), part["part"], part["layout"] or "", *_figures(part))
    table.add_section()
    table.add_row("", "total", "", *_figures(facts["total"]))
    Console().print(table)


def _figures(part: dict[str, Any]) -> list[str]:
    return [
        f"{part['parameters']:,}" if part["parameters"] else "",
        _scaled(part["forward_flops_per_byte"], 1000, ("", "k", "M", "G", "T")),
        _scaled(part["training_flops_per_byte"], 1000, ("", "k", "M", "G", "T")),
        _scaled(part["state_bytes"], 1024, ("B", "KiB", "MiB", "GiB", "TiB")),
    ]


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    if not value:
        return ""
    power = 0
    while value >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g} {units[power]}".rstrip()
