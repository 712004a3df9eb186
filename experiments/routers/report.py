"""The results of the router experiment as a table and a figure: means over seeds with their 95 % intervals."""

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from experiments.common import Estimate
from matplotlib.figure import Figure

from hnet_lm.figures import write_figure

Cells = Mapping[str, Mapping[str, Any]]
"""Results by RECIPE-SEED."""

COLUMNS: Mapping[str, Callable[[Mapping[str, Any]], float | None]] = {
    "bits per byte": lambda cell: cell.get("bits_per_byte"),
    "TFLOPs": lambda cell: cell.get("training_tflops"),
    "bytes per chunk": lambda cell: cell.get("bytes_per_chunk"),
    "at a space": lambda cell: cell.get("starts_at_space"),
    "at a letter": lambda cell: cell.get("starts_at_word"),
    "B": lambda cell: cell.get("enrichment"),
    "by chance": lambda cell: cell.get("enrichment_by_chance"),
    "F1 / chance, Chinese words": lambda cell: over_chance(cell, "Chinese words"),
    "at a token": lambda cell: agreement(cell, "Python tokens", "precision"),
    "tokens by chance": lambda cell: agreement(cell, "Python tokens", "chance_precision"),
}
OPTIONAL = tuple(COLUMNS)[7:]
"""Columns that are left out where no cell has them."""
AT_EQUAL_FLOPS = "bits at equal FLOPs"


def agreement(cell: Mapping[str, Any], reference: str, key: str) -> float | None:
    return next((item[key] for item in cell.get("agreement", ()) if item["reference"] == reference), None)


def over_chance(cell: Mapping[str, Any], reference: str) -> float | None:
    f1, chance = (agreement(cell, reference, key) for key in ("f1", "chance_f1"))
    return f1 / chance if f1 is not None and chance else None


def by_recipe(results: Cells) -> dict[str, list[Mapping[str, Any]]]:
    """The cells of each recipe, in the order in which recipes came."""
    recipes = dict.fromkeys(name.rpartition("-")[0] for name in results)
    return {recipe: [cell for name, cell in results.items() if name.rpartition("-")[0] == recipe] for recipe in recipes}


def estimates(cells: Sequence[Mapping[str, Any]]) -> dict[str, Estimate]:
    """Of every column that the cells have."""
    found = {}
    for heading, of_cell in COLUMNS.items():
        values = [value for cell in cells if (value := of_cell(cell)) is not None]
        if values:
            found[heading] = Estimate.of(values)
    return found


def at_equal_flops(results: Cells) -> dict[str, Estimate]:
    """Bits per byte of each recipe with three targets or more, at the FLOPs of `paper` (or its own first target).

    Fewer bytes per chunk buy bits with FLOPs. So of each seed a line is laid through bits per byte over log FLOPs of
    all targets, and read where FLOPs are equal.
    """
    found: dict[str, Estimate] = {}
    named = sorted((split_target(name), cell) for name, cell in results.items())
    paper = [cell["training_tflops"] for (recipe, _, target), cell in named if recipe == "paper" and not target]
    for recipe, of_recipe in groupby(named, key=lambda item: item[0][0]):
        rows = list(of_recipe)
        plain = [cell["training_tflops"] for (_, _, target), cell in rows if not target]
        values = []
        for _, of_seed in groupby(sorted(rows, key=lambda item: item[0][1]), key=lambda item: item[0][1]):
            points = [(math.log(cell["training_tflops"]), cell["bits_per_byte"]) for _, cell in of_seed]
            if len(points) >= 3 and (paper or plain):
                log_flops, bits = np.transpose(points)
                slope, level = np.polyfit(log_flops, bits, 1)
                values.append(float(level + slope * math.log(mean(paper or plain))))
        if values:
            found[recipe] = Estimate.of(values)
    return found


def split_target(name: str) -> tuple[str, str, str]:
    """Recipe without its target, seed, target."""
    recipe, _, seed = name.rpartition("-")
    parts = recipe.split("+")
    targets = [part for part in parts if part[0] == "n" and part[1:].isdigit()]
    return "+".join(part for part in parts if part not in targets), seed, "".join(targets)


def table(results: Cells) -> str:
    rows = {recipe: (len(cells), estimates(cells)) for recipe, cells in by_recipe(results).items()}
    used = [name for name in COLUMNS if name not in OPTIONAL or any(name in found for _, found in rows.values())]
    equal = at_equal_flops(results)
    used_too = [AT_EQUAL_FLOPS] if equal else []
    lines = [
        f"| {' | '.join(('recipe', 'seeds', *used, *used_too))} |",
        f"| --- {'| --: ' * (1 + len(used) + len(used_too))}|",
    ]
    for recipe, (num, found) in rows.items():
        figures = [str(found[name]) if name in found else "" for name in used]
        figures += [str(equal.get(recipe, "")) for _ in used_too]
        lines.append(f"| {recipe} | {num} | {' | '.join(figures)} |")
    return "\n".join(lines) + "\n"


PANELS = ("bits per byte", "bytes per chunk", "B", "TFLOPs")


def save_figure(results: Cells, file: Path) -> None:
    """A row per recipe, best on top, and a panel per figure, with intervals where there are several seeds."""
    rows = {recipe: estimates(cells) for recipe, cells in by_recipe(results).items()}
    order = sorted(rows, key=lambda recipe: -rows[recipe]["bits per byte"].mean)
    figure = Figure(figsize=(11, 1.3 + 0.32 * len(order)), layout="constrained")
    for axes, panel in zip(figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True):
        for height, recipe in enumerate(order):
            if (found := rows[recipe].get(panel)) is None:
                continue
            error = None if math.isnan(found.half) else found.half
            axes.errorbar(found.mean, height, xerr=error, fmt="o", color="C0", capsize=2)
        chance = [found["by chance"].mean for found in rows.values() if "by chance" in found]
        if panel == "B" and chance:
            axes.axvline(mean(chance), color="0.5", linestyle=":")
        axes.set_xlabel(panel)
        axes.locator_params(axis="x", nbins=5)
        axes.set_yticks(range(len(order)), order)
        axes.grid(axis="x", alpha=0.3)
    write_figure(figure, file, dpi=110)
