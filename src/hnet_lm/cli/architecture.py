"""A model without its weights: its configuration, and what is known of its training.

It is named by a config (JSON, also `-` for standard input) or a run file (TOML), each a path or a name that comes with
the package, by a saved model, the folder of a run, or hf:owner/name. If a config and a run have the same name, the name
with `.toml` is the run. A run tells the length of its sequences and of its chunks; a bare config tells neither.
"""

import itertools
import json
import operator
import typing
from collections.abc import Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any

from hnet_lm.checkpoint import CONFIG, HUB_PREFIX
from hnet_lm.config import HNetConfig
from hnet_lm.errors import CheckpointError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs import STANDARD_INPUT, local, read_text
from hnet_lm.named_configs import named, nearest_names
from hnet_lm.tables import from_table
from hnet_lm.trained_models import trained_directory
from hnet_lm.training.config import RunConfig
from hnet_lm.training.metrics import read_metrics

METRICS = "metrics.jsonl"
PUBLISHED_LENGTH = 8192
"""Bytes of the sequences that the published models were trained on."""


@dataclass(frozen=True)
class Architecture:
    """A configuration, and for a run what is known of its training."""

    source: str
    config: HNetConfig
    run: RunConfig | None = None
    measured_bytes_per_chunk: tuple[float, ...] | None = None
    """Bytes per chunk of each stage that chunks, outermost first, from the last record of the training."""
    is_planned: bool = False
    """Whether it was named by a run file, so that it may not be trained yet."""

    @property
    def max_length(self) -> int | None:
        """Length in bytes of the longest training sequence."""
        return None if self.run is None else self.run.data.max_length

    @property
    def bytes_per_chunk(self) -> tuple[tuple[float, ...], str]:
        """Bytes per chunk of each stage, and where they come from, in words that begin with "assumed" if they are."""
        config = self.config
        if self.measured_bytes_per_chunk is not None:
            return self.measured_bytes_per_chunk, f"measured, the last in its {METRICS}"
        if self.run is not None and len(self.run.loss.target_ratios) == config.num_stages:
            aims = itertools.accumulate(self.run.loss.target_ratios, operator.mul)
            return tuple(round(aim, 4) for aim in aims), "assumed, the loss.target_ratios of its run file"
        return published_bytes_per_chunk(config.num_stages), "assumed, as in the published models"


def published_bytes_per_chunk(num_stages: int) -> tuple[float, ...]:
    """Chunk lengths of the published models (paper, table 1): 4.7 to 4.8 with one stage, 6.9 to 7.0 with two."""
    return (4.8,) if num_stages == 1 else tuple(round(2.65 ** (s + 1), 2) for s in range(num_stages))


def read_architecture(source: str) -> Architecture:
    """Raises ConfigError or CheckpointError if the source is none of these."""
    if source.startswith(HUB_PREFIX):
        hub = import_leaf("hnet_lm.hub", "hf", f"reading {source}")
        path = hub.fetch(source.removeprefix(HUB_PREFIX), (CONFIG,))
        return Architecture(source, HNetConfig.load(path / CONFIG))
    path = Path(local(source))
    if not path.exists():
        path = trained_directory(source) or named(source, "models", "runs") or path
    if path.suffix == ".toml":
        run = RunConfig.load(path)
        config = read_architecture(run.model.config or run.model.init_from).config
        return Architecture(source, config, run.for_model(config), is_planned=True)
    if not path.exists() and not path.suffix and source != STANDARD_INPUT:
        near = nearest_names(source, "models", "runs")
        raise CheckpointError(
            f"{source}: no such directory; a model on the hub is named {HUB_PREFIX}owner/name; {near}"
        )
    if not path.is_dir():
        return Architecture(source, HNetConfig.load(path))
    config = HNetConfig.load(path / CONFIG)
    return Architecture(source, config, _run_of(path), _measured(path / METRICS, config.num_stages))


def _run_of(directory: Path) -> RunConfig | None:
    """The configuration of the run, from its newest readable checkpoint."""
    for path in sorted(directory.glob("checkpoints/step_*/trainer.json"), reverse=True):
        try:
            saved = json.loads(read_text(path))["config"]
            saved["model"] = {"config": str(directory / CONFIG)}  # where a checkpoint has the architecture itself
            return from_table(RunConfig, _known(RunConfig, saved))
        except (ValueError, KeyError, TypeError):  # damaged, or written by another version
            continue
    return None


def _measured(metrics: Path, num_stages: int) -> tuple[float, ...] | None:
    keys = [f"stage{stage}/bytes_per_chunk" for stage in range(num_stages)]
    for record in reversed(read_metrics(metrics)):
        if keys and all(isinstance(record.get(key), float | int) for key in keys):
            return tuple(float(record[key]) for key in keys)
    return None


def _known(kind: Any, table: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of the dataclass that have a value, as in a run file."""
    hints = typing.get_type_hints(kind)
    return {key: _known_value(hints[key], value) for key, value in table.items() if key in hints and value is not None}


def _known_value(hint: Any, value: Any) -> Any:
    if isinstance(value, list):
        return [_known_value(typing.get_args(hint)[0], item) for item in value]
    return _known(hint, value) if is_dataclass(hint) and isinstance(value, Mapping) else value
