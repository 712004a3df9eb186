"""Chunks drawn in a terminal: the text in rows, and under each row one band per stage.

    The cat sat      the text; with colour, the chunks of stage 0 alternate between two shades
    ┗━━━┗━━━┗━━━     a chunk starts at each ┗, and at ╋ inside the character above
    ┗━━━━━━━┗━━━     the next stage

The bands show the same without colour. A wide character takes two cells, a combining mark none; a line break of the
text is drawn as ⏎ and starts a new row. If the output's encoding lacks these signs, the bands are drawn with `|`, `+`
and `-`, and characters that it lacks as question marks of the same width. The number before a row is the offset of its
first byte; for DNA its position in the sequence, counted from 1, and annotated intervals have rows of their own:
`name>>>>` on the forward strand, `name<<<<` on the reverse strand, `name====` without a strand.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

import numpy as np
from rich.cells import cell_len
from rich.text import Text

from hnet_lm.genome import BedInterval
from hnet_lm.inspect.characters import NEWLINE, Characters, characters
from hnet_lm.inspect.place import Place, lanes
from hnet_lm.inspect.statistics import StageSummary
from hnet_lm.inspect.structure import Chunks

TEXT_STYLES = ("black on #bfd7ff", "black on #ffe2b8")
BAND_STYLES = (("#3b82f6", "#f59e0b"), ("#10b981", "#ec4899"), ("#8b5cf6", "#84cc16"), ("#06b6d4", "#ef4444"))
STRANDS = {"+": ">", "-": "<", ".": "="}


@dataclass(frozen=True)
class Signs:
    """The characters of bands and bars."""

    start: str
    """A chunk starts with the character above."""
    inside: str
    """A chunk starts inside it."""
    rest: str
    levels: str
    """Bars of a probability, from 0 to 1."""
    bar: str
    newline: str = NEWLINE


SIGNS = Signs("┗", "╋", "━", " ▁▂▃▄▅▆▇█", "█")
ASCII_SIGNS = Signs("|", "+", "-", " .:-=+*%#", "#", "$")


def render(
    chunks: Chunks, width: int, probabilities: bool = False, encoding: str = "utf-8", place: Place | None = None
) -> Iterator[Text]:
    """The lines of the picture, at most `width` cells wide; `probabilities` adds a row of bars (1/8 steps) per stage.

    The signs are chosen for `encoding`, that of the output.
    """
    signs = _signs(encoding)
    drawn = characters(chunks.data)
    glyphs = [
        _shown(glyph, int(cells), encoding, signs) for glyph, cells in zip(drawn.glyphs, drawn.widths, strict=True)
    ]
    bands = [_Band(chunks, stage, drawn, signs, probabilities) for stage in range(len(chunks.stages))]
    origin = 0 if place is None else place.origin + 1
    tracks = [] if place is None else lanes(place.annotations)
    gutter = max(len("stage 0"), len(str(origin + len(chunks.data)))) + 1
    for row in drawn.rows(max(width - gutter, 8)):
        head = Text(f"{int(drawn.starts[row.start]) + origin}".rjust(gutter - 1) + " ", style="dim")
        yield _text_row(head, glyphs, bands[0].chunk_ids if bands else None, row)
        for band in bands:
            yield from band.render(row, gutter)
        for track in tracks:
            if any(marks := _track_cells(track, drawn, row)):
                line = "".join(mark or " " for mark in marks).rstrip()
                shown = _shown(line, cell_len(line), encoding, signs)
                yield Text("bed".rjust(gutter - 1) + " ", style="dim").append(shown, "not dim")
    if any(band.torn.any() for band in bands):
        yield Text(f"{signs.inside}: a chunk starts inside the character, between its bytes", style="dim")


def histogram(summary: StageSummary, width: int, max_bars: int = 24, encoding: str = "utf-8") -> Iterator[Text]:
    """One bar per chunk length in bytes; the longest chunks share the last bar."""
    counts = summary.capped_histogram(max_bars)
    greatest = max(counts, default=0)
    for length, count in enumerate(counts, start=1):
        label = summary.length_label(length, max_bars)
        bar = _signs(encoding).bar * round((width - 30) * count / greatest)
        yield Text.assemble(f"{label:>6} ", (bar, BAND_STYLES[0][0]), f" {count:,} ({count / summary.num_chunks:.1%})")


def _signs(encoding: str) -> Signs:
    return SIGNS if _has(encoding, "".join(vars(SIGNS).values())) else ASCII_SIGNS


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _shown(glyph: str, cells: int, encoding: str, signs: Signs) -> str:
    if glyph == NEWLINE:
        return signs.newline
    return glyph if _has(encoding, glyph) else "?" * cells


class _Band:
    """What one stage shows for every character."""

    def __init__(self, chunks: Chunks, stage: int, drawn: Characters, signs: Signs, probabilities: bool) -> None:
        found = chunks.stages[stage]
        self.stage = stage
        self.signs = signs
        self.styles = BAND_STYLES[stage % len(BAND_STYLES)]
        self.widths = drawn.widths
        self.chunk_ids = drawn.chunk_ids(found.starts)
        self.opens = drawn.opens(found.starts)
        self.torn = drawn.torn(found.starts)
        self.levels = _levels(found.prob_at_bytes(), drawn, len(signs.levels) - 1) if probabilities else None

    def render(self, row: range, gutter: int) -> Iterator[Text]:
        line = Text(f"stage {self.stage}".ljust(gutter), style="dim")
        for parity, run in _runs(self.chunk_ids, row):
            line.append("".join(self._cells(index) for index in run), self.styles[parity])
        yield line
        if self.levels is not None:
            bars = "".join(self.signs.levels[self.levels[index]].ljust(self.widths[index]) for index in row)
            yield Text("p".rjust(gutter - 1) + " ", style="dim").append(bars, self.styles[0])

    def _cells(self, index: int) -> str:
        signs = self.signs
        mark = signs.inside if self.torn[index] else signs.start if self.opens[index] else signs.rest
        return mark + signs.rest * (int(self.widths[index]) - 1)


def _levels(probs: np.ndarray, drawn: Characters, num_levels: int) -> np.ndarray:
    """The greatest probability of each character's bytes, in steps of 1 / `num_levels`."""
    if not len(drawn):
        return np.zeros(0, dtype=np.int64)
    greatest = np.maximum.reduceat(np.nan_to_num(probs), drawn.starts)
    return np.ceil(greatest * num_levels).astype(np.int64)


def _runs(chunk_ids: np.ndarray, row: range) -> Iterator[tuple[int, list[int]]]:
    """Consecutive characters of one chunk, with the chunk's parity, which get one style."""
    for chunk, run in groupby(row, key=chunk_ids.__getitem__):
        yield int(chunk) % 2, list(run)


def _track_cells(track: Sequence[BedInterval], drawn: Characters, row: range) -> list[str]:
    """For each cell of the row the sign of the interval there; empty if there is none."""
    begins, ends = drawn.starts[row.start : row.stop], drawn.ends[row.start : row.stop]
    widths = drawn.widths[row.start : row.stop]
    left = widths.cumsum() - widths
    cells = [""] * int(widths.sum())
    for interval in track:
        inside = np.flatnonzero((begins < interval.end) & (ends > interval.start))
        if len(inside):
            first, last = int(left[inside[0]]), int(left[inside[-1]] + widths[inside[-1]])
            rest = STRANDS[interval.strand] * (last - first)
            cells[first:last] = list((interval.name if interval.name.isascii() else "") + rest)[: last - first]
    return cells


def _text_row(line: Text, glyphs: list[str], chunk_ids: np.ndarray | None, row: range) -> Text:
    if chunk_ids is None:
        return line.append("".join(glyphs[row.start : row.stop]), "not dim")
    for parity, run in _runs(chunk_ids, row):
        line.append("".join(glyphs[run[0] : run[-1] + 1]), f"not dim {TEXT_STYLES[parity]}")
    return line
