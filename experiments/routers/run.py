"""Where a small H-Net cuts under different recipes: what steers the router, how hard, and how fast it learns.

    python -m experiments.routers.run demo                                    # the first recipes, one seed
    python -m experiments.routers.run demo --recipes ramp entropy-0.1 --seeds 0 1 2
    python -m experiments.routers.run english --corpora FOLDER --sets losses rates --seeds 0 1 2
    python -m experiments.routers.run english --corpora FOLDER --recipes entropy-0.1+bytes mambabyte --num-steps 500

A task is data and a size (`tasks.py`); a recipe is one of `recipes.py`, or several parts joined by `+`; a set is
several recipes. Each cell is a run of hnet-lm, then `hnet-lm evaluate` on its held-out text. Both are printed before
they begin, with the time that is left. What is done already is not done again, and a stopped run goes on from its
checkpoint. Runs are in runs/routers/TASK/, results in experiments/routers/TASK.json, TASK.md and TASK.png; those of
another number of steps than the task's have that number behind its name.

FOLDER has english/train.jsonl.xz, english/validation.jsonl.xz, and so on. Of DNA, `--genome` and `--genes` add the
phase of cuts in the codons of genes.
"""

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from experiments.common import answer, read_results, write_results
from experiments.common import write as write_text
from experiments.routers.recipes import SETS
from experiments.routers.report import save_figure, table
from experiments.routers.tasks import BUNDLED, HERE, TASKS, configured

from hnet_lm.checkpoint import load
from hnet_lm.config import HNetConfig
from hnet_lm.errors import UserError
from hnet_lm.model.flops import FORWARD_AND_BACKWARD, total_flops_per_byte
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.memory import keep_freed_memory
from hnet_lm.training.progress import TerminalReporter

MAX_BYTES = 200_000
"""Of held-out text."""
NUM_COMMON = 10


def measured(config: RunConfig, genome: str | None, genes: str | None) -> dict[str, Any]:
    model = HNetConfig.load(Path(config.run.directory) / "config.json")
    sources = [source.path for source in config.validation.sources]
    measure = "boundaries" if model.num_stages else "bpb"
    found = answer("evaluate", measure, config.run.directory, *sources, "--max-bytes", str(MAX_BYTES))
    stages = of_stages(found) if model.num_stages else []
    if stages and genome and genes:
        phases = answer("evaluate", "boundaries", config.run.directory, genome, "--bed", genes, "--codon-phase")
        stages[0]["codon_phases"] = of_stages(phases)[0].get("codon_phases")
    records = [json.loads(line) for line in (Path(config.run.directory) / "metrics.jsonl").read_text().splitlines()]
    longest = config.data.max_length  # a router that hardly cuts has longer chunks in whole documents
    lengths = [min(stage["bytes_per_chunk"], longest) for stage in stages]
    return {
        "bits_per_byte": found["bits_per_byte"],
        "training_tflops": training_tflops(model, config.data.max_length, records),
        "flops_per_byte": total_flops_per_byte(model, longest, lengths),
        "num_parameters": sum(parameter.numel() for parameter in load(config.run.directory).parameters()),
        **(of_stage(stages[0]) if stages else {}),
    }


def of_stages(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Of the one domain that was measured, or the first."""
    return next(iter(found["domains"].values()))


def of_stage(stage: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of the outermost stage."""
    kept = ("reference", "precision", "recall", "f1", "chance_precision", "chance_recall", "chance_f1")
    return {
        "bytes_per_chunk": stage["bytes_per_chunk"],
        "starts_at_space": stage["starts_at_space"],
        "starts_at_word": stage["starts_at_word"],
        "enrichment": stage["enrichment"]["value"],
        "enrichment_by_chance": stage["enrichment"]["null_mean"],
        "enrichment_interval_by_chance": [stage["enrichment"]["null_low"], stage["enrichment"]["null_high"]],
        "stability": stage["stability"],
        "agreement": [{key: item[key] for key in kept} for item in stage["agreement"]],
        "common_chunks": stage["common_chunks"][:NUM_COMMON],
        **({"codon_phases": stage["codon_phases"]} if stage.get("codon_phases") else {}),
    }


def training_tflops(model: HNetConfig, max_length: int, records: Sequence[Mapping[str, Any]]) -> float:
    """Of all updates, at the chunks really made."""
    total, bytes_before = 0.0, 0
    keys = [f"stage{stage}/bytes_per_chunk" for stage in range(model.num_stages)]
    for record in records:
        if "bytes_seen" in record and all(key in record for key in keys):
            flops = total_flops_per_byte(model, max_length, [record[key] for key in keys])
            total += FORWARD_AND_BACKWARD * flops * (record["bytes_seen"] - bytes_before)
            bytes_before = record["bytes_seen"]
    return total / 1e12


def write(name: str, results: Mapping[str, Any]) -> None:
    write_results(HERE / f"{name}.json", results)
    write_text(HERE / f"{name}.md", table(results))
    save_figure(results, HERE / f"{name}.png")


def time_left(results: Mapping[str, Any], num_left: int) -> str:
    known = [cell["seconds"] for cell in results.values() if "seconds" in cell]
    return f"about {num_left * mean(known) / 60:.0f} minutes" if known else "an unknown time"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task", choices=TASKS)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=[])
    parser.add_argument("--recipes", nargs="+", default=[])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--corpora", type=Path, help="folder of the corpora, which all tasks but demo need")
    parser.add_argument("--num-steps", type=int, help="updates of 4096 bytes, instead of the task's")
    parser.add_argument("--genome", help="FASTA of a genome with --genes")
    parser.add_argument("--genes", help="BED of its genes, with strands")
    options = parser.parse_args()
    if options.task != BUNDLED and options.corpora is None:
        parser.error(f"{options.task} needs --corpora, the folder of its data")
    if (options.genome is None) != (options.genes is None):
        parser.error("--genome and --genes go together")
    of_sets = [recipe for name in options.sets for recipe in SETS[name]]
    recipes = list(dict.fromkeys([*options.recipes, *of_sets] or SETS["first"]))
    keep_freed_memory()
    name = options.task if options.num_steps is None else f"{options.task}-{options.num_steps}"
    file = HERE / f"{name}.json"
    results = read_results(file)
    cells = [(recipe, seed) for seed in options.seeds for recipe in recipes if f"{recipe}-{seed}" not in results]
    try:
        runs = [configured(options.task, *cell, options.corpora, options.num_steps) for cell in cells]
    except (KeyError, UserError) as error:
        parser.error(str(error))
    for number, ((recipe, seed), config) in enumerate(zip(cells, runs, strict=True)):
        left = len(cells) - number
        print(f"{left} of {len(cells)} cells are left, {time_left(results, left)}: {recipe}, seed {seed}", flush=True)
        print(f"$ hnet-lm train {BUNDLED}, with {config.model}, {config.run}, {config.loss}", flush=True)
        began = time.monotonic()
        if not train(config, TerminalReporter()).is_finished:
            return
        cell = measured(config, options.genome, options.genes)
        results[f"{recipe}-{seed}"] = cell | {"seconds": time.monotonic() - began}
        write(name, results)
    if results:
        write(name, results)  # also where every cell was there, in a file that came from elsewhere
    print(table(results))


if __name__ == "__main__":
    main()
