"""The results as one picture: training, decoding, and what length costs. A leaf: needs matplotlib."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

Results = Mapping[str, Any]
COLOURS = {"bench": "C0", "bench, bfloat16": "C9", "bench, int8": "C4", "mamba": "C2", "transformers": "C3"}


def save_figure(results: Results, path: Path) -> None:
    """A panel for each of these parts that was measured; nothing where none was."""
    panels = [draw for part, draws in PANELS.items() if part in results["parts"] for draw in draws]
    if not panels:
        return
    figure = Figure(figsize=(6 * min(2, len(panels)), 4.2 * ((len(panels) + 1) // 2)), layout="constrained")
    for i, draw in enumerate(panels):
        draw(figure.add_subplot((len(panels) + 1) // 2, min(2, len(panels)), i + 1), results)
    machine = results["machine"]
    figure.suptitle(f"{machine['processor']}, {machine['threads']} threads, torch {machine['torch']}", fontsize=10)
    figure.savefig(path, dpi=120)


def _training(axes: Axes, results: Results) -> None:
    summary = results["summary"]["training"]
    bars = [*summary["matched"].items(), *summary["mamba"].items()]
    names = [name.replace("ours", "mamba").replace(", chunks", ",\nchunks") for name, _ in bars]
    colours = ["C0"] + ["C1"] * (len(summary["matched"]) - 1) + ["C2"] + ["C3"] * (len(summary["mamba"]) - 1)
    drawn = axes.barh(names, [speed["bytes_per_second"] for _, speed in bars], color=colours)
    labels = [f"{speed['bytes_per_second']:,.0f}{_of_peak(speed)}" for _, speed in bars]
    axes.bar_label(drawn, labels, padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.margins(x=0.35)
    axes.locator_params(axis="x", nbins=5)
    axes.tick_params(axis="y", labelsize=8)
    axes.set(title="Training step", xlabel="bytes/s (share of the matrix product peak)")


def _of_peak(speed: Mapping[str, float]) -> str:
    return f" ({speed['share_of_peak']:.1%})" if "share_of_peak" in speed else ""


def _decoding(axes: Axes, results: Results) -> None:
    for name, found in results["summary"]["decoding"]["streams"].items():
        streams = [int(number) for number in found]
        speeds = [row["bytes_per_second"] for row in found.values()]
        axes.plot(streams, speeds, "o-", color=COLOURS[name], label=name)
    axes.set(xscale="log", yscale="log", title="Decoding", xlabel="streams", ylabel="bytes/s of all streams")
    numbers = sorted({row["streams"] for row in results["parts"]["decoding"]["streams"]})
    axes.set_xticks(numbers, labels=[str(number) for number in numbers])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _time_by_length(axes: Axes, results: Results) -> None:
    part, summary = results["parts"]["length"], results["summary"]["length"]
    lengths = [row["length"] for row in part["steps"]]
    for key, costs, style in (("steps", "seconds_per_byte", "o-"), ("own_window", "own_window_seconds_per_byte", "o:")):
        rows = part[key]
        label = f"windows of {rows[0]['window']}"
        axes.plot([row["length"] for row in rows], [1e6 * cost for cost in summary[costs]], style, label=label)
    axes.legend(fontsize=8, loc="lower right")
    axes.set(title="Training by length, windowed: time", ylabel="us a byte")
    axes.set_ylim(0, 1.15 * axes.get_ylim()[1])
    _length_axis(axes, lengths)


def _memory_by_length(axes: Axes, results: Results) -> None:
    steps = results["parts"]["length"]["steps"]
    fit = results["summary"]["length"]["memory_fit"]
    lengths = [row["length"] for row in steps]
    axes.plot(lengths, [row["peak_bytes"] / 2**20 for row in steps], "o", label="measured")
    line = [(fit["slope"] * length + fit["intercept"]) / 2**20 for length in lengths]
    axes.plot(lengths, line, "-", color="0.6", zorder=0, label=f"line, off by at most {fit['largest_error']:.1%}")
    axes.set(title="Training by length, windowed: memory", ylabel="peak of a step, MiB")
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.legend(fontsize=8)
    _length_axis(axes, lengths)


def _length_axis(axes: Axes, lengths: list[int]) -> None:
    axes.set_xscale("log", base=2)
    axes.set_xticks(lengths)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value / 1024:g}k"))
    axes.set_xlabel("bytes of the sequence")
    axes.grid(alpha=0.3)


PANELS = {"training": [_training], "decoding": [_decoding], "length": [_time_by_length, _memory_by_length]}
