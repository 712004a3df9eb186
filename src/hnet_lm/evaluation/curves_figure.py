"""The figure of data-efficiency curves: bits per byte over bytes seen, decay in dashes. A leaf: needs matplotlib."""

from collections.abc import Sequence
from pathlib import Path
from typing import IO

from matplotlib.figure import Figure

from hnet_lm.evaluation.curves import Curve, Efficiency
from hnet_lm.figures import write_figure


def save_figure(
    curves: Sequence[Curve], efficiencies: Sequence[Efficiency], file: str | Path | IO[bytes], kind: str = "png"
) -> str:
    """Draw the curves, and for each factor before decay an arrow at its level from the baseline to the run.

    Returns the characters of names that no font has, which are boxes.
    """
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
    for entry in axes.legend().get_texts():
        entry.set_parse_math(False)  # a name may contain dollar signs
    return write_figure(figure, file, kind=kind)
