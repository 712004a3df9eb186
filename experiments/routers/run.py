"""Where a small H-Net cuts under different recipes: what steers the router, how hard, and how fast it learns.

    python experiments/routers/run.py demo                 # every recipe, one seed
    python experiments/routers/run.py demo --recipes ramp entropy-0.1 --seeds 0 1 2

Each cell is a run of hnet-lm with a few keys changed, followed by `hnet-lm evaluate boundaries` on its held-out text;
both are printed before they begin. What is done already is not done again, and a stopped run goes on from its
checkpoint. Runs are in runs/routers/, results in experiments/routers/NAME.json and NAME.md.
"""

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path
from statistics import mean
from typing import Any

from hnet_lm.cli.main import main as hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, forward_flops_per_byte
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import TerminalReporter

HERE = Path("experiments/routers")
RUNS = Path("runs/routers")
MAX_BYTES = 200_000
"""Of held-out text."""

COLUMNS = (
    "bits_per_byte",
    "training_tflops",
    "bytes_per_chunk",
    "starts_at_space",
    "starts_at_word",
    "enrichment",
    "enrichment_by_chance",
)
NO_RAMP: dict[str, Any] = {"start_target_ratios": None, "ramp": 0.0, "terms": ()}


def entropy(weight: float, target_ratio: float = 6.0) -> dict[str, Any]:
    term = {"name": "entropy", "target_ratio": target_ratio, "weight": weight}
    return {
        "loss": {"ratio_loss_weight": 0.0, **NO_RAMP, "terms": (term,)},
        "optimizer": {"routing_lr_multiplier": 1.0},
    }


RECIPES: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    "paper": {"loss": {"ratio_loss_weight": 0.03, **NO_RAMP}, "optimizer": {"routing_lr_multiplier": 1.0}},
    "ratio-0.3": {"loss": {"ratio_loss_weight": 0.3, **NO_RAMP}, "optimizer": {"routing_lr_multiplier": 1.0}},
    "ramp": {
        "run": {"num_steps": 330},
        "loss": {"ratio_loss_weight": 0.05, "terms": (), "start_target_ratios": (2.0,), "ramp": 0.5},
        "optimizer": {"routing_lr_multiplier": 0.1},
    },
    "cab": {
        "loss": {"ratio_loss_weight": 0.3, **NO_RAMP, "terms": ({"name": "cab", "weight": 1.0},)},
        "optimizer": {"routing_lr_multiplier": 1.0},
    },
    "entropy-0.1": entropy(0.1),
    "entropy-0.3": entropy(0.3),
    "entropy-1": entropy(1.0),
}
"""Keys of the run file that each recipe changes. `ramp` spends as many FLOPs in 330 updates as others in 376."""


def configured(name: str, recipe: str, seed: int) -> RunConfig:
    config = RunConfig.load(name)
    changes: dict[str, dict[str, Any]] = {table: dict(keys) for table, keys in RECIPES[recipe].items()}
    changes["run"] = changes.get("run", {}) | {"seed": seed, "directory": str(RUNS / name / f"{recipe}-{seed}")}
    tables = {table: dataclasses.replace(getattr(config, table), **keys) for table, keys in changes.items()}
    return dataclasses.replace(config, **tables)


def measured(config: RunConfig, sources: Sequence[str]) -> dict[str, Any]:
    command = ["evaluate", "boundaries", config.run.directory, *sources, "--max-bytes", str(MAX_BYTES), "--json"]
    print("$ hnet-lm", *command, flush=True)
    with contextlib.redirect_stdout(StringIO()) as out:
        assert hnet_lm(command) == 0
    found = json.loads(out.getvalue())
    (stages,) = found["domains"].values()
    stage = stages[0]
    records = [json.loads(line) for line in (Path(config.run.directory) / "metrics.jsonl").read_text().splitlines()]
    return {
        "bits_per_byte": found["bits_per_byte"],
        "bytes_per_chunk": stage["bytes_per_chunk"],
        "starts_at_space": stage["starts_at_space"],
        "starts_at_word": stage["starts_at_word"],
        "enrichment": stage["enrichment"]["value"],
        "enrichment_by_chance": stage["enrichment"]["null_mean"],
        "stability": stage["stability"],
        "training_tflops": training_tflops(config, records),
        "common_chunks": stage["common_chunks"][:10],
    }


def training_tflops(config: RunConfig, records: Sequence[Mapping[str, Any]]) -> float:
    """Of all updates, at the chunks really made."""
    model = HNetConfig.load(Path(config.run.directory) / "config.json")
    total, bytes_before = 0.0, 0
    for record in records:
        if "stage0/bytes_per_chunk" in record:
            flops = forward_flops_per_byte(model, [record["stage0/bytes_per_chunk"]], config.data.max_length)
            total += FORWARD_AND_BACKWARD * sum(flops.values()) * (record["bytes_seen"] - bytes_before)
            bytes_before = record["bytes_seen"]
    return total / 1e12


def table(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = [
        "| recipe | seeds | bits per byte | TFLOPs | bytes per chunk | at a space | at a letter | B | by chance |",
        "| --- | --: | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for recipe in RECIPES:
        cells = [cell for name, cell in results.items() if name.rpartition("-")[0] == recipe]
        if cells:
            figures = [f"{mean(cell[key] for cell in cells):.3f}" for key in COLUMNS]
            rows.append(f"| {recipe} | {len(cells)} | {' | '.join(figures)} |")
    return "\n".join(rows) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="the run that is changed, a name or a file")
    parser.add_argument("--recipes", nargs="+", choices=RECIPES, default=list(RECIPES))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    options = parser.parse_args()
    keep_freed_memory()
    file = HERE / f"{Path(options.run).stem}.json"
    results: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    for seed in options.seeds:
        for recipe in options.recipes:
            cell = f"{recipe}-{seed}"
            if cell in results:
                continue
            config = configured(options.run, recipe, seed)
            print(f"$ hnet-lm train {options.run} --run.seed {seed} with {dict(RECIPES[recipe])}", flush=True)
            if not train(config, TerminalReporter()).is_finished:
                return
            results[cell] = measured(config, [source.path for source in config.validation.sources])
            file.write_text(json.dumps(results, indent=1) + "\n")
            file.with_suffix(".md").write_text(table(results))
    print(table(results))


if __name__ == "__main__":
    main()
