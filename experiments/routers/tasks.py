"""The data, sizes and models that recipes are tried on, as changes of the run `demo`; and a recipe's run on each."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.routers.recipes import TARGET, aimed, merged

from hnet_lm.baselines import FAMILIES, TOLERANCE, Cutting, match, rule_bytes_per_chunk
from hnet_lm.chunker_config import CHUNKERS
from hnet_lm.cli.run_file import matched_run
from hnet_lm.config import HNetConfig
from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.errors import ConfigError
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.training.config import RunConfig

HERE = Path("experiments/routers")
RUNS = Path("runs/routers")
BUNDLED = "demo"
MATCHED_BYTES = 500_000
"""Of training text, on which the chunks of a rule are measured."""


@dataclass(frozen=True)
class Task:
    """Data and size. Without `data` it is the run itself."""

    data: str = ""
    """Folder and suffix of its files `train` and `validation`, under the folder of corpora."""
    model: str = "demo"
    num_steps: int = 2000
    """Of 4096 bytes."""
    target: float = TARGET


TASKS: Mapping[str, Task] = {
    BUNDLED: Task(num_steps=376),
    "english": Task("english/*.jsonl.xz"),
    "english-4x": Task("english/*.jsonl.xz", str(HERE / "configs/demo_4x.json")),
    "english-half": Task("english/*.jsonl.xz", str(HERE / "configs/demo_half.json")),
    "chinese": Task("chinese/*.jsonl.xz"),
    "code": Task("code/*.jsonl.zst"),
    "dna": Task("dna/*.fa.zst", target=3.0),
}


def configured(task_name: str, recipe: str, seed: int, corpora: Path | None, num_steps: int | None = None) -> RunConfig:
    """The run of a recipe on a task; writes the model's JSON where it is none of the package's."""
    task, keys = TASKS[task_name], aimed(merged(recipe), TASKS[task_name].target)
    config = _on_data(RunConfig.load(BUNDLED), task, corpora)
    steps = round((num_steps or task.num_steps) * keys.pop("share", 1.0))
    folder = RUNS / (task_name if num_steps is None else f"{task_name}-{num_steps}")
    run = {"num_steps": steps, "seed": seed, "directory": str(folder / f"{recipe}-{seed}")}
    config = _replaced(config, {"run": run, "loss": keys["loss"], "optimizer": keys["optimizer"]})
    if rate := keys.pop("lr", None):
        config = _replaced(config, {"optimizer": {"lr": rate * config.optimizer.lr}})
    return _with_model(config, task, recipe, keys)


def _on_data(config: RunConfig, task: Task, corpora: Path | None) -> RunConfig:
    model = config.model if task.model == BUNDLED else dataclasses.replace(config.model, config=task.model)
    if not task.data:
        return dataclasses.replace(config, model=model)
    assert corpora is not None
    train, held_out = (
        (SourceConfig(str(corpora / task.data.replace("*", split))),) for split in ("train", "validation")
    )
    data = dataclasses.replace(config.data, sources=train)
    validation = dataclasses.replace(config.validation, sources=held_out, sample_bytes=0)
    return dataclasses.replace(config, model=model, data=data, validation=validation)


def _replaced(config: RunConfig, changes: Mapping[str, Mapping[str, Any]]) -> RunConfig:
    tables = {table: dataclasses.replace(getattr(config, table), **keys) for table, keys in changes.items()}
    return dataclasses.replace(config, **tables)


def _with_model(config: RunConfig, task: Task, recipe: str, keys: Mapping[str, Any]) -> RunConfig:
    """With the architecture that the recipe asks for: other parts, or another one of equal FLOPs per byte."""
    plain = HNetConfig.load(task.model)
    target_ratio = config.loss.target_ratios[0]
    if "family" in keys or "outer" in keys:
        architecture, lengths = _matched(config, task, keys, plain)
        path = _written(architecture.to_dict() | keys.get("model", {}), config)
        return matched_run(
            config,
            HNetConfig.load(path),
            config_path=str(path),
            directory=config.run.directory,
            bytes_per_chunk=lengths,
        )
    if "model" in keys:
        path = _written(plain.to_dict() | keys["model"], config)
        config = _replaced(config, {"model": {"config": str(path)}})
    assert target_ratio > 1, recipe
    return config


def _matched(
    config: RunConfig, task: Task, keys: Mapping[str, Any], plain: HNetConfig
) -> tuple[HNetConfig, tuple[float, ...]]:
    """A model that costs per byte what the task's own does at the chunks aimed at, and bytes per chunk of its own."""
    length = config.data.max_length
    cost = total_flops_per_byte(plain, length, [task.target])
    family, options = FAMILIES[keys.get("family", "hnet-1stage")], {}
    if family.num_stages:
        options["bytes_per_chunk"] = (config.loss.target_ratios[0],)
        kind = CHUNKERS.find(family.cut, family.title)
        if not kind.learns:
            rule = kind.for_ratio(task.target) or CHUNKERS.parse({"name": family.cut}, family.title)
            ratio = rule.nominal_ratio or rule_bytes_per_chunk(rule, _beginning(config.data), plain.bos_id)
            options |= {"cutting": Cutting(rule), "bytes_per_chunk": (ratio,)}
    asked = keys.get("outer", {})
    tolerance = TOLERANCE if family.num_stages else 2 * TOLERANCE  # a width of MambaByte is a multiple of 32
    found = match(family, _with_outer(plain, **asked), cost, length, tolerance=tolerance, **options)
    if asked and found.config.stages[0].encoder != asked["layout"]:
        raise ConfigError(f"with {asked} as the outer network nothing is left of {cost:.3g} FLOPs per byte")
    return found.config, found.bytes_per_chunk


def _with_outer(plain: HNetConfig, layout: str = "", d_model: int = 0, d_state: int = 0) -> HNetConfig:
    """The reference of a match, with another outer network."""
    table = plain.to_dict()
    if layout:
        table["arch_layout"] = [layout, table["arch_layout"][1], layout]
    if layout[:1] in ("T", "M"):
        table["d_intermediate"][0] = table["d_model"][0] * 2
    if d_model:
        table["d_model"][0] = d_model
    if d_state:
        table["ssm_cfg"]["d_state"] = d_state
    return HNetConfig.from_dict(table)


def _beginning(data: DataConfig) -> list[bytes]:
    found, room = [], MATCHED_BYTES
    for document in documents(data):
        found.append(document.data[:room])
        room -= len(document.data)
        if room <= 0:
            break
    return found


def _written(table: Mapping[str, Any], config: RunConfig) -> Path:
    """Beside the folder of the run, under its name."""
    path = Path(f"{config.run.directory}.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(table, indent=1) + "\n")
    return path
