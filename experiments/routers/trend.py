"""Where the hierarchy starts to pay: bits per byte of an H-Net less those of MambaByte of equal FLOPs, over model size.

    python -m experiments.routers.trend english-half english english-4x --recipe entropy-0.1

reads the results of `run.py` on tasks of several sizes, in which both recipes have the same seeds. A line through the
differences over the log of FLOPs per byte says where it crosses 0; its interval comes from drawing seeds anew.
"""

import argparse
import json
import math
from collections.abc import Sequence

import numpy as np
from experiments.routers.report import Estimate
from experiments.routers.tasks import HERE, TASKS

NUM_DRAWS = 2000
BASELINE = "mambabyte"

Points = Sequence[tuple[float, list[float]]]
"""Log of FLOPs per byte, and the difference of each seed."""


def differences(task: str, recipe: str, baseline: str) -> tuple[float, list[float]]:
    """Of the seeds that both have. Raises SystemExit where there are none."""
    results = json.loads((HERE / f"{task}.json").read_text())
    of_recipe, of_baseline = (
        {name.rpartition("-")[2]: cell for name, cell in results.items() if name.rpartition("-")[0] == wanted}
        for wanted in (recipe, baseline)
    )
    seeds = sorted(of_recipe.keys() & of_baseline.keys())
    if not seeds:
        raise SystemExit(f"{HERE / task}.json: no seed has both {recipe} and {baseline}")
    flops = [of_recipe[seed]["flops_per_byte"] for seed in seeds]
    found = [of_recipe[seed]["bits_per_byte"] - of_baseline[seed]["bits_per_byte"] for seed in seeds]
    return math.log(sum(flops) / len(flops)), found


def crossing(points: Points) -> float:
    """Log of the FLOPs at which the line through the means crosses 0; infinite where it does not come down."""
    slope, level = np.polyfit([x for x, _ in points], [float(np.mean(values)) for _, values in points], 1)
    return float(-level / slope) if slope < 0 else math.inf


def drawn(points: Points, random: np.random.Generator) -> Points:
    return [(x, random.choice(values, len(values)).tolist()) for x, values in points]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="+", choices=TASKS)
    parser.add_argument("--recipe", default="entropy-0.1")
    parser.add_argument("--baseline", default=BASELINE)
    options = parser.parse_args()
    points = [differences(task, options.recipe, options.baseline) for task in options.tasks]
    print(f"| task | MFLOPs per byte | seeds | {options.recipe} less {options.baseline}, bits per byte |")
    print("| --- | --: | --: | --: |")
    for task, (x, values) in zip(options.tasks, points, strict=True):
        print(f"| {task} | {math.exp(x) / 1e6:.2f} | {len(values)} | {Estimate.of(values)} |")
    if len(points) < 2:
        return
    random = np.random.default_rng(0)
    low, high = np.quantile([crossing(drawn(points, random)) for _ in range(NUM_DRAWS)], [0.025, 0.975])
    said = [f"{math.exp(x) / 1e6:.3g}" if x < 50 else "never" for x in (crossing(points), low, high)]
    print(f"the line crosses 0 at {said[0]} MFLOPs per byte (95 %: {said[1]} to {said[2]})")


if __name__ == "__main__":
    main()
