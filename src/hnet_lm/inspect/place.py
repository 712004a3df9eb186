"""The location of a text in a genome, and the annotations there."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.genome import BedInterval, other_name, read_bed, region_name


@dataclass(frozen=True)
class Place:
    """The text's first byte is position `origin`, counted from 0, of a sequence; "" means that it has no name."""

    sequence: str
    origin: int
    annotations: tuple[BedInterval, ...] = ()
    """Intervals that overlap the text, as offsets into it; they may begin before it and end after it."""

    def name(self, start: int, end: int) -> str:
        """Bytes `start .. end - 1` of the text, as genome browsers write the location."""
        return region_name(self.sequence, self.origin + start, self.origin + end)


def read_annotations(
    path: str | Path, sequence: str | None, num_bases: int, origin: int = 0
) -> tuple[BedInterval, ...]:
    """The intervals of a BED file on `sequence` (None: every line) that overlap the text, as offsets into it.

    Raises DataError for a line that is not BED, and if no interval overlaps the text.
    """
    intervals = list(read_bed(path))
    found = annotations_in(intervals, sequence, num_bases, origin)
    if not found:
        names = {interval.sequence for interval in intervals}
        where = "any sequence" if sequence is None else f"{sequence!r}"
        other = "" if sequence is None else other_name(sequence)
        hint = (
            f"it has {other!r}, so rename one of them" if other in names else "check the sequence name and the origin"
        )
        raise DataError(f"{path}: no interval of {where} overlaps positions {origin} to {origin + num_bases}; {hint}")
    return found


def annotations_in(
    intervals: Iterable[BedInterval], sequence: str | None, num_bases: int, origin: int = 0
) -> tuple[BedInterval, ...]:
    """Those that overlap the text, as offsets into it."""
    moved = (i.moved(-origin) for i in intervals if sequence is None or i.sequence == sequence)
    return tuple(interval for interval in moved if interval.end >= 0 and interval.start < num_bases)


def edges(annotations: Iterable[BedInterval], num_bases: int) -> np.ndarray:
    """The offsets where intervals start and end; an end is the first base after the interval."""
    marked = {offset for interval in annotations for offset in (interval.start, interval.end)}
    return np.array(sorted(offset for offset in marked if 0 <= offset < num_bases), dtype=np.int64)


def lanes(annotations: Iterable[BedInterval]) -> list[list[BedInterval]]:
    """The intervals in as few rows without overlaps as possible, from left to right."""
    found: list[list[BedInterval]] = []
    for interval in sorted(annotations, key=lambda interval: (interval.start, interval.end)):
        free = next((lane for lane in found if lane[-1].end <= interval.start), None)
        if free is None:
            found.append([interval])
        else:
            free.append(interval)
    return found
