"""The figure about cuts: enrichment, F1 compared with chance, lengths, common chunks. A leaf: needs matplotlib."""

from pathlib import Path
from typing import IO

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from hnet_lm.evaluation.boundary_page import Facts, visible
from hnet_lm.figures import write_figure

NUM_CHUNKS = 12


def save_figure(facts: Facts, file: str | Path | IO[bytes], kind: str = "png") -> str:
    """Four panels: B of every domain and stage with its interval by chance; F1 for each reference compared with chance;
    bytes per chunk; and the most frequent chunks of the outermost stage in the first domain.

    Returns the characters that no font has, which are boxes.
    """
    rows = [(f"{domain}, stage {n}", stage) for domain, stages in facts.items() for n, stage in enumerate(stages)]
    agreements = [(f"{name}: {item['reference']}", item) for name, stage in rows for item in stage["agreement"]]
    height = 2.4 + 0.3 * max(len(rows), NUM_CHUNKS) + 0.25 * max(len(agreements), len(rows))
    figure = Figure(figsize=(11, height), layout="constrained")
    (enrichment, lengths), (references, common) = figure.subplots(2, 2)
    for place, (_, stage) in enumerate(rows):
        found = stage["enrichment"]
        if found["value"] is not None:
            enrichment.plot([found["null_low"], found["null_high"]], [place, place], color="0.6", linewidth=6)
            enrichment.plot(found["value"], place, "o", color="C0")
        lengths.barh(place, stage["bytes_per_chunk"] or 0.0, 0.5, color="C0")
    for axes, label in ((enrichment, "boundary enrichment B (grey: 95 % by chance)"), (lengths, "bytes per chunk")):
        _named(axes, [name for name, _ in rows], label)
    enrichment.set_xlim(left=0)
    for place, (_, item) in enumerate(agreements):
        references.plot([item["chance_f1"] or 0.0, item["f1"] or 0.0], [place, place], color="0.8", zorder=0)
        references.plot(item["chance_f1"] or 0.0, place, "|", color="0.4", markersize=12)
        references.plot(item["f1"] or 0.0, place, "o", color="C0")
    _named(references, [name for name, _ in agreements], "F1 of the cuts (bar: by chance)")
    texts = rows[0][1]["common_chunks"][:NUM_CHUNKS] if rows else []
    common.barh(range(len(texts)), [number for _, number in texts], color="C0")
    _named(common, [visible(text) for text, _ in texts], f"most frequent chunks{f', {rows[0][0]}' if rows else ''}")
    return write_figure(figure, file, kind=kind, dpi=120)


def _named(axes: Axes, names: list[str], label: str) -> None:
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlabel(label)
    axes.grid(axis="x", alpha=0.3)
