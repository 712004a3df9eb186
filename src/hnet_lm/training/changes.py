"""In what a run that is resumed differs from what it was, and which of that changes what it learns."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from hnet_lm.data import DataConfig, SourceConfig
from hnet_lm.tables import to_table
from hnet_lm.training.config import RunConfig
from hnet_lm.training.sections import LoopConfig, ModelSource

# Keys that may differ between a run and its resumption: they change no update.
FREE_TO_CHANGE = (
    "run.directory",
    "run.activation_checkpointing",
    "data.num_workers",
    "validation",
    "checkpoints",
    "logging",
    "distributed",
)

# Keys that can never differ, not even with `--allow-changes`: what was read, and what the weights are for.
FIXED = ("data.", "model.architecture", "lora.")
NOT_FIXED = ("data.on_error",)


def completed(saved: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a run that an earlier version saved, with the defaults of tables and keys that have come since."""
    source = SourceConfig("-")
    defaults = to_table(RunConfig(LoopConfig("-", 1), ModelSource("-"), DataConfig((source,))))
    found = {key: {**defaults.get(key, {}), **rows} for key, rows in {**defaults, **saved}.items() if key != "model"}
    found["data"]["sources"] = [{**dataclasses.asdict(source), **one} for one in found["data"]["sources"]]
    return {**found, "model": saved.get("model")}


def cannot_change(difference: str) -> bool:
    """Whether a line of `differences` is about a key that stays the same for the whole of a run."""
    key = difference.partition(":")[0]
    return key.startswith(FIXED) and key not in NOT_FIXED


def differences(saved: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Lines `key: saved -> now` for every key in which two runs (as nested dicts) train differently."""
    lines = []
    for key in sorted({*saved, *now}):
        name = f"{prefix}{key}"
        if name in FREE_TO_CHANGE:
            continue
        before, after = saved.get(key), now.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            lines += differences(before, after, f"{name}.")
        elif before != after:
            lines.append(f"{name}: {before!r} -> {after!r}")
    return lines
