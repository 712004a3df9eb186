"""Tracks for genome browsers, as lines: bedGraph for a value per base, BED for intervals."""

from collections.abc import Iterable, Iterator

import numpy as np


def bedgraph_lines(
    sequence: str, positions: np.ndarray, values: np.ndarray, title: str = "", origin: int = 0
) -> Iterator[str]:
    """A line per value: the base at `origin + position`, counted from 0. With a title, a track line comes first."""
    if title:
        yield f'track type=bedGraph name="{title}" visibility=full viewLimits=0:1 autoScale=off\n'
    for position, value in zip((positions + origin).tolist(), values.tolist(), strict=True):
        yield f"{sequence}\t{position}\t{position + 1}\t{value:.6g}\n"


def bed_lines(
    sequence: str, intervals: Iterable[tuple[int, int, str, float]], title: str = "", origin: int = 0
) -> Iterator[str]:
    """A line per (start, end, name, share): BED6 with a score of 0 to 1000 and no strand, sorted by position."""
    if title:
        yield f'track name="{title}" useScore=1 visibility=pack\n'
    for start, end, name, share in sorted(intervals, key=lambda interval: (interval[0], interval[2])):
        yield f"{sequence}\t{origin + start}\t{origin + end}\t{name}\t{round(1000 * share)}\t.\n"
