"""The course of a run as a picture: bits per byte above, bytes per chunk of every stage below (extra `plot`)."""

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from hnet_lm.figures import write_figure
from hnet_lm.training.metrics import Record
from hnet_lm.training.run_folder import replace_file

SMOOTHING = 0.8


def save_figure(records: Sequence[Record], path: Path, target_ratios: Sequence[float], title: str) -> str:
    """Write the PNG of the records of one `metrics.jsonl`; the characters that no font has. Raises CannotWrite."""
    updates = [record for record in records if record.get("loss") is not None]  # null: it was not finite
    seen = [record["bytes_seen"] / 1e6 for record in updates]
    figure = Figure(figsize=(8, 6), layout="constrained")
    loss_axes, ratio_axes = figure.subplots(2, 1, sharex=True, height_ratios=[3, 2])

    loss = [record["bits_per_byte"] for record in updates]
    loss_axes.plot(seen, loss, color="tab:blue", alpha=0.25, linewidth=0.8)
    loss_axes.plot(seen, _smoothed(loss), color="tab:blue", label="training")
    bytes_at = {record["step"]: record["bytes_seen"] / 1e6 for record in records if "bytes_seen" in record}
    validations = [record for record in records if "validation/bits_per_byte" in record]
    at = [bytes_at.get(record["step"], seen[-1] if seen else 0.0) for record in validations]
    held_out = [record["validation/bits_per_byte"] for record in validations]
    loss_axes.plot(at, held_out, "o", color="tab:orange", label="held-out text")
    if held_out:
        loss_axes.annotate(
            f"{held_out[-1]:.3f}", (at[-1], held_out[-1]), (-6, 10), textcoords="offset points", ha="right"
        )
    tail = sorted(loss)[: max(1, int(0.95 * len(loss)))]
    loss_axes.set(ylabel="bits per byte", ylim=(None, tail[-1] * 1.05) if tail else None, title=title)
    loss_axes.legend()

    target = 1.0
    for stage, ratio in enumerate(target_ratios):
        target *= ratio
        # Chunks a byte are what can be averaged: one update of huge chunks does not outweigh the others.
        fractions = _smoothed([1 / record[f"stage{stage}/bytes_per_chunk"] for record in updates])
        (line,) = ratio_axes.plot(seen, [1 / fraction for fraction in fractions], label=f"stage {stage}")
        ratio_axes.axhline(target, color=line.get_color(), linestyle=":", label=f"target {target:g}")
    ratio_axes.set(xlabel="megabytes of text", ylabel="bytes per chunk", ylim=(0, 2.5 * target))
    if target_ratios:
        ratio_axes.legend()
    for axes in (loss_axes, ratio_axes):
        axes.grid(alpha=0.3)
    picture = io.BytesIO()
    missing = write_figure(figure, picture, dpi=120)
    replace_file(path, picture.getvalue())
    return missing


def _smoothed(values: Sequence[float]) -> list[float]:
    """Exponential average, without the bias of its start."""
    average, weight, smoothed = 0.0, 0.0, []
    for value in values:
        average = SMOOTHING * average + (1 - SMOOTHING) * value
        weight = SMOOTHING * weight + (1 - SMOOTHING)
        smoothed.append(average / weight)
    return smoothed
