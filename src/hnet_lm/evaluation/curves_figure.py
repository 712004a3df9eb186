"""The figure of data-efficiency curves: bits per byte over bytes seen, decay in dashes. A leaf: needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hnet_lm.evaluation.curves import Curve, Efficiency


def save_figure(curves: Sequence[Curve], efficiencies: Sequence[Efficiency], path: str | Path) -> None:
    """Draw the curves, and for each factor before decay an arrow at its level from the baseline to the run."""
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.add_subplot()
    by_name = {curve.name: curve for curve in curves}
    for curve in curves:
        n = curve.num_before_decay
        (line,) = axes.plot(curve.bytes_seen[:n], curve.bits_per_byte[:n], label=curve.name)
        rest = slice(max(n - 1, 0), None)
        axes.plot(curve.bytes_seen[rest], curve.bits_per_byte[rest], linestyle="--", color=line.get_color())
    for found in efficiencies:
        pair = (by_name[name] for name in (found.baseline, found.run))
        start, end = (curve.bytes_to_reach(found.level, before_decay=True) for curve in pair)
        if start is None or end is None:
            continue
        arrow = {"arrowstyle": "->", "color": "0.35"}
        axes.annotate("", (end, found.level), (start, found.level), arrowprops=arrow)
        middle = (start * end) ** 0.5
        text = f"{found.factor:.2f}x"
        axes.annotate(text, (middle, found.level), (0, -12), textcoords="offset points", ha="center", color="0.35")
    axes.set_xscale("log")
    axes.set_xlabel("bytes seen")
    axes.set_ylabel("bits per byte")
    axes.legend()
    figure.savefig(path, dpi=150)
