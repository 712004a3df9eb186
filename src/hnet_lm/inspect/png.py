"""Chunks as a picture file: the first rows of the text with one band per stage, and histograms for the whole text.

The number before a row is the offset of its first byte; for DNA its position in the sequence, counted from 1, with
annotated intervals below. A dotted line through a character means that a chunk starts inside it. Characters that no
installed font has are drawn as boxes, and returned. Needs matplotlib.
"""

from itertools import groupby, islice
from pathlib import Path
from typing import IO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from hnet_lm.figures import FONTS, write_figure
from hnet_lm.genome import BedInterval
from hnet_lm.inspect.characters import Characters, characters
from hnet_lm.inspect.place import Place, lanes
from hnet_lm.inspect.statistics import StageSummary, summarize
from hnet_lm.inspect.structure import Chunks

# Stage 0 is behind the text, so its colours are pale; further stages start over.
_COLOURS = (("#bfd7ff", "#ffe2b8"), ("#10b981", "#ec4899"), ("#8b5cf6", "#84cc16"), ("#06b6d4", "#ef4444"))
_FONTS = ("DejaVu Sans Mono", "Noto Sans Mono CJK SC", *FONTS)
_HISTOGRAM_BARS = 24
_CELL = 0.115  # width of a terminal cell in inches; heights below are in cells too
_TEXT_HEIGHT, _BAND_HEIGHT, _BAND_STEP, _ROW_GAP = 1.9, 0.4, 0.6, 0.7
_RULER_HEIGHT, _RULER_STEP, _TRACK_HEIGHT, _TRACK_STEP = 1.8, 10, 0.9, 1.1
_QUIET, _TRACK_COLOUR = "#5f6672", "#475569"


def save_png(
    chunks: Chunks,
    file: str | Path | IO[bytes],
    title: str,
    columns: int = 100,
    max_rows: int = 24,
    kind: str = "png",
    place: Place | None = None,
) -> str:
    """Write the picture as png, pdf or svg; returns the characters that no font has, which are drawn as boxes.

    The histograms count the whole text, including what is beyond `max_rows`; the title says so.
    """
    drawn = characters(chunks.data)
    rows = list(islice(drawn.rows(columns), max_rows))
    num_stages = len(chunks.stages)
    end_shown = int(drawn.ends[rows[-1].stop - 1]) if rows else 0
    tracks = [] if place is None else lanes(a for a in place.annotations if a.start < end_shown and a.end > 0)
    bands_height = _TEXT_HEIGHT + _BAND_STEP * max(num_stages - 1, 0)
    row_height = bands_height + _TRACK_STEP * len(tracks) + _ROW_GAP
    heights = [(max(len(rows), 1) * row_height + _RULER_HEIGHT) * _CELL] + ([1.9] if num_stages else [])
    origin = 0 if place is None else place.origin + 1
    gutter = len(f"{origin + end_shown:,}") + 1
    figure = Figure(figsize=((columns + gutter) * _CELL + 0.4, sum(heights) + 0.5), layout="constrained")
    grid = figure.add_gridspec(len(heights), max(num_stages, 1), height_ratios=heights)
    axes = figure.add_subplot(grid[0, :])
    axes.set(xlim=(-gutter, columns), ylim=(max(len(rows), 1) * row_height, -_RULER_HEIGHT))
    axes.set_axis_off()
    _draw_ruler(axes, columns)
    _draw_text(axes, chunks, drawn, rows, row_height)
    for number, row in enumerate(rows):
        label = f"{origin + int(drawn.starts[row.start]):,}"
        y = number * row_height + 0.72 * _TEXT_HEIGHT
        axes.text(-1, y, label, fontsize=7, color=_QUIET, ha="right", family="monospace")
        for lane, track in enumerate(tracks):
            _draw_track(axes, track, drawn, row, number * row_height + bands_height + 0.15 + _TRACK_STEP * lane)
    for stage, summary in enumerate(summarize(chunks)):
        _draw_histogram(figure.add_subplot(grid[1, stage]), stage, summary)
    num_shown = rows[-1].stop if rows else 0
    part = "" if num_shown == len(drawn) else f" (the first {num_shown:,} of {len(drawn):,} characters)"
    figure.suptitle(title + part, fontsize=10, parse_math=False)
    return write_figure(figure, file, kind=kind, fonts=_FONTS)


def _draw_ruler(axes: Axes, columns: int) -> None:
    """Every ten cells, the number to add to the one before a row."""
    for column in range(0, columns, _RULER_STEP):
        axes.vlines(column + 0.5, -0.5, -0.1, _QUIET, linewidth=0.8)
        axes.text(column + 0.5, -0.7, f"+{column}", fontsize=6, color=_QUIET, ha="center", family="monospace")


def _draw_track(axes: Axes, track: list[BedInterval], drawn: Characters, row: range, top: float) -> None:
    begins, ends = drawn.starts[row.start : row.stop], drawn.ends[row.start : row.stop]
    widths = drawn.widths[row.start : row.stop]
    left = widths.cumsum() - widths
    for interval in track:
        inside = np.flatnonzero((begins < interval.end) & (ends > interval.start))
        if not len(inside):
            continue
        first, last = int(left[inside[0]]), int(left[inside[-1]] + widths[inside[-1]])
        axes.add_patch(Rectangle((first, top), last - first, _TRACK_HEIGHT, color=_TRACK_COLOUR, linewidth=0))
        arrow = {"+": " →", "-": " ←"}.get(interval.strand, "")
        label = f"{interval.name}{arrow}"[: last - first]
        axes.text(
            first + 0.2, top + 0.8 * _TRACK_HEIGHT, label, fontsize=6, color="white", parse_math=False, clip_on=True
        )


def _draw_text(axes: Axes, chunks: Chunks, drawn: Characters, rows: list[range], row_height: float) -> None:
    chunk_ids = [drawn.chunk_ids(stage.starts) for stage in chunks.stages]
    torn = drawn.torn(chunks.stages[0].starts) if chunks.stages else np.zeros(len(drawn), dtype=bool)
    for number, row in enumerate(rows):
        top = number * row_height
        left = drawn.widths[row.start : row.stop].cumsum() - drawn.widths[row.start : row.stop]
        for stage, ids in enumerate(chunk_ids):
            y = top if stage == 0 else top + _TEXT_HEIGHT + _BAND_STEP * stage - _BAND_HEIGHT
            height = _TEXT_HEIGHT if stage == 0 else _BAND_HEIGHT
            for chunk, run in groupby(row, key=ids.__getitem__):
                members = list(run)
                width = drawn.widths[members].sum()
                colour = _COLOURS[stage % len(_COLOURS)][chunk % 2]
                axes.add_patch(Rectangle((left[members[0] - row.start], y), width, height, color=colour, linewidth=0))
        for x, index in zip(left, row, strict=True):
            glyph = drawn.glyphs[index]
            axes.text(x, top + 0.72 * _TEXT_HEIGHT, glyph, fontsize=9, family="monospace", parse_math=False)
            if torn[index]:
                axes.vlines(x + drawn.widths[index] / 2, top, top + _TEXT_HEIGHT, "black", "dotted", linewidth=1)


def _draw_histogram(axes: Axes, stage: int, summary: StageSummary) -> None:
    counts = summary.capped_histogram(_HISTOGRAM_BARS)
    lengths = range(1, len(counts) + 1)
    axes.bar(lengths, counts, color=_COLOURS[stage % len(_COLOURS)][0])
    ticks = [length for length in lengths if length == 1 or length % 4 == 0]
    axes.set_xticks(ticks, [summary.length_label(length, _HISTOGRAM_BARS) for length in ticks], fontsize=7)
    axes.tick_params(axis="y", labelsize=7)
    axes.set_title(f"stage {stage}: {summary.bytes_per_chunk:.2f} bytes per chunk", fontsize=9)
    axes.set_xlabel("chunk length, bytes", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
