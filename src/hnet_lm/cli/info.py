"""`hnet-lm info`: the parts of a model and what they cost, from its configuration alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
import tyro

from hnet_lm.chunker_config import CHUNKERS
from hnet_lm.cli.architecture import PUBLISHED_LENGTH, Architecture, read_architecture
from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.tables import print_table
from hnet_lm.cli.terminal import print_json
from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, forward_flops_per_byte
from hnet_lm.model.sizes import parameters_by_part, state_bytes_by_part
from hnet_lm.tables import to_table
from hnet_lm.training.optimizer import lr_multipliers
from hnet_lm.weights import meta_model

PARTS = (
    "embedding",
    "ngrams",
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
    """Parameters, FLOPs per byte and bytes of state per sequence, by stage and part. No weights are read."""

    config: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="CONFIG")]
    """A config (JSON or a name, such as hnet_2stage_L), a saved model or a run's folder, hf:owner/name, or a run file
    (TOML or a name, such as english): then its training too."""
    bytes_per_chunk: Annotated[tuple[float, ...], tyro.conf.arg(metavar="BYTES ...")] = ()
    """Bytes of input per chunk of each chunking stage, outermost first. Default: as measured by a run, or the
    targets of its file; otherwise as in the published models, 4.8 with one stage, 2.65 and 7.02 with two."""
    sequence_length: Annotated[int | None, tyro.conf.arg(metavar="INT")] = None
    """Sequence length in bytes (for a model of tokens, in tokens); default: the longest of the run, or 8192."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Type of the weights, and of keys and values in the state."""
    json: bool = False
    """Print JSON instead of a table."""

    def run(self) -> None:
        require_at_least(1, sequence_length=self.sequence_length)
        found = read_architecture(self.config)
        bytes_per_chunk, origin = found.bytes_per_chunk
        if self.bytes_per_chunk:
            bytes_per_chunk, origin = self.bytes_per_chunk, "as given"
        trained_length = None if found.config.reads_tokens else found.max_length  # in bytes
        length = self.sequence_length or trained_length or PUBLISHED_LENGTH
        facts = describe(found.config, bytes_per_chunk, length, getattr(torch, self.precision))
        if found.is_planned:
            facts["training"] = _training(found, facts)
        if self.json:
            print_json(facts, indent=2)
        else:
            _print_tables(self.config, facts, origin)


def describe(
    config: HNetConfig, bytes_per_chunk: Sequence[float], sequence_length: int, dtype: torch.dtype
) -> dict[str, Any]:
    """All figures, as `--json` prints them. Raises ConfigError for impossible chunk lengths.

    A model of tokens is described per token: the number of bytes per token is not known here.
    """
    unit = _unit(config)
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
            f"forward_flops_per_{unit}": flops.get((stage, part), 0.0),
            f"training_flops_per_{unit}": FORWARD_AND_BACKWARD * flops.get((stage, part), 0.0),
            "state_bytes": state_bytes.get((stage, part), 0),
        }
        for stage, part in keys
    ]
    figures = ("parameters", f"forward_flops_per_{unit}", f"training_flops_per_{unit}", "state_bytes")
    return {
        "config": config.to_dict(),
        "unit": unit,
        "bytes_per_chunk": list(bytes_per_chunk),
        "sequence_length": sequence_length,
        "dtype": str(dtype).removeprefix("torch."),
        "total": {figure: sum(part[figure] for part in parts) for figure in figures},
        "parts": parts,
    }


def _training(found: Architecture, facts: dict[str, Any]) -> dict[str, Any]:
    """What the run will do on one rank, and at what learning rates. Ends of documents count as bytes."""
    run, config = found.run, found.config
    assert run is not None
    bytes_per_step = run.run.accumulation * run.data.tokens_per_batch
    multipliers = run.optimizer.lr_multipliers or lr_multipliers(config, run.loss.target_ratios)
    per_byte = None if config.reads_tokens else facts["total"]["training_flops_per_byte"]
    num_steps, superposition = run.run.num_steps, run.superposition
    num_positions = None if num_steps is None else num_steps * bytes_per_step
    superposed = 0 if num_steps is None else superposition.num_updates(num_steps) * bytes_per_step
    num_bytes = None if num_positions is None else num_positions + (superposition.bag_size - 1) * superposed
    return {
        "num_steps": num_steps,
        "minutes": run.run.minutes,
        "bytes_per_step_and_rank": bytes_per_step,
        "bytes_per_rank": num_bytes,
        "flops_per_rank": None if per_byte is None or num_positions is None else per_byte * num_positions,
        "learning_rates": [run.optimizer.lr * multiplier for multiplier in multipliers],
    }


def _unit(config: HNetConfig) -> str:
    return "token" if config.reads_tokens else "byte"


def _print_tables(name: str, facts: dict[str, Any], origin: str) -> None:
    config, unit = HNetConfig.from_dict(facts["config"]), facts["unit"]
    print(f"{name}: widths {', '.join(str(stage.d_model) for stage in config.stages)}")
    for stage, line in enumerate(_parts_in_words(config)):
        print(f"stage {stage} is {line}")
    headings = ("stage", "part", "layout", "parameters", f"FLOPs/{unit}", "training", "state")
    rows = [[str(part["stage"]), part["part"], part["layout"] or "", *_figures(part, unit)] for part in facts["parts"]]
    rows.append(["", "total", "", *_figures(facts["total"], unit)])
    print_table(headings, rows, text_columns=(0, 1, 2))
    chunks = ", ".join(f"{size:g}" for size in facts["bytes_per_chunk"])
    print(f"at {facts['sequence_length']} {unit}s per sequence, {facts['dtype']}")
    if chunks:
        print(f"and {chunks} bytes per chunk ({origin})")
    print(f"FLOPs per {unit} of a forward pass, and of training; state of one sequence")
    if training := facts.get("training"):
        rates = ", ".join(f"{rate:.3g}" for rate in training["learning_rates"])
        flops = "" if training["flops_per_rank"] is None else f", {training['flops_per_rank']:.3g} FLOPs"
        updates = f"updates of {training['bytes_per_step_and_rank']:,} bytes"
        length = f"{training['minutes']} minutes of {updates}"
        if training["num_steps"] is not None:
            length = f"{training['num_steps']:,} {updates} = {training['bytes_per_rank']:,} bytes"
        print(f"training, per rank: {length}{flops}\npeak learning rate of each stage, outermost first: {rates}")


def _parts_in_words(config: HNetConfig) -> list[str]:
    """For each stage that chunks, its chunker and how it is put together; none if all are the paper's."""
    if not config.chunkers and not config.chunking:
        return []
    lines = []
    for stage, chunker in enumerate(config.all_chunkers):
        entry = CHUNKERS.written(chunker)
        parts = {key: value for key, value in entry.items() if key != "name"} | to_table(config.chunking_of(stage))
        lines.append(f"cut by {entry['name']!r} ({', '.join(f'{key} {value}' for key, value in parts.items())})")
    return lines


def _figures(part: dict[str, Any], unit: str) -> list[str]:
    return [
        f"{part['parameters']:,}" if part["parameters"] else "",
        _scaled(part[f"forward_flops_per_{unit}"], 1000, ("", "k", "M", "G", "T")),
        _scaled(part[f"training_flops_per_{unit}"], 1000, ("", "k", "M", "G", "T")),
        _scaled(part["state_bytes"], 1024, ("B", "KiB", "MiB", "GiB", "TiB")),
    ]


def _scaled(value: float, base: int, units: Sequence[str]) -> str:
    if not value:
        return ""
    power = 0
    while value >= base and power < len(units) - 1:
        value, power = value / base, power + 1
    return f"{value:.3g} {units[power]}".rstrip()
