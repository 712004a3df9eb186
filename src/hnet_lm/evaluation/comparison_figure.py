"""The figure of a comparison: bits per byte of every model with its interval, the best on top. Needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from matplotlib.figure import Figure

from hnet_lm.evaluation.comparison import Compared
from hnet_lm.figures import write_figure


def save_figure(rows: Sequence[Compared], file: str | Path | IO[bytes], kind: str = "png") -> str:
    """Write the figure; beside each point stands what the model costs and how long its chunks are.

    Returns the characters of names that no font has, which are boxes.
    """
    ordered = sorted(rows, key=lambda found: found.result.value, reverse=True)
    figure = Figure(figsize=(8, 1.2 + 0.42 * len(ordered)), layout="constrained")
    axes = figure.add_subplot()
    for height, found in enumerate(ordered):
        value, interval = found.result.value, found.result.interval()
        (point,) = axes.plot(value, height, "o")
        if interval is not None:
            axes.plot([interval.low, interval.high], [height, height], color=point.get_color())
        chunks = ", ".join(f"{length:.1f}" for length in found.bytes_per_unit)
        label = f"{value:.3f}   {found.flops_per_byte / 1e6:.3g} MFLOPs" + (f", {chunks} B" if chunks else "")
        axes.annotate(label, (value, height), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_yticks(range(len(ordered)), [found.name for found in ordered], parse_math=False)
    axes.set_ylim(-0.6, len(ordered) - 0.2)
    axes.margins(x=0.15)
    axes.set_xlabel("bits per byte (95 % interval); beside it forward FLOPs per byte, bytes per chunk")
    axes.grid(axis="x", alpha=0.3)
    return write_figure(figure, file, kind=kind, dpi=120)
