"""BED files: intervals of sequences, with names, strands, and the coding parts of their exons where there are such."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hnet_lm.errors import DataError
from hnet_lm.inputs import decoded_lines, opened

_POSITION = re.compile(r"[0-9]{1,15}")
_NAME, _STRAND, _THICK_START, _THICK_END, _SIZES, _STARTS = 3, 5, 6, 7, 10, 11


@dataclass(frozen=True)
class BedInterval:
    """Positions `start .. end - 1` of a sequence, counted from 0."""

    sequence: str
    start: int
    end: int
    name: str = ""
    strand: str = "."
    coding: tuple[tuple[int, int], ...] = ()
    """The parts that are translated: the thick part of the blocks; without those columns all of it."""
    line: int = 0

    def moved(self, by: int) -> "BedInterval":
        """The same interval, counted from another origin."""
        coding = tuple((start + by, end + by) for start, end in self.coding)
        return BedInterval(self.sequence, self.start + by, self.end + by, self.name, self.strand, coding, self.line)


def read_bed(path: str | Path) -> Iterator[BedInterval]:
    """The intervals as they come, also of a compressed file or a pipe. Raises DataError for a line that is not BED."""
    with opened(path) as stream:
        for number, line in enumerate(decoded_lines(stream, str(path)), start=1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            fields = [field.strip() for field in line.split("\t")] if "\t" in line else line.split()
            where = f"{path}, line {number}"
            if len(fields) < 3 or not all(_POSITION.fullmatch(field) for field in fields[1:3]):
                raise DataError(f"{where}: not BED; expected a name, a start and an end, got {line.strip()[:80]!r}")
            start, end = map(int, fields[1:3])
            if end < start:
                raise DataError(f"{where}: the interval ends at {end}, before its start {start}")
            name = fields[_NAME] if len(fields) > _NAME else ""
            strand = fields[_STRAND] if len(fields) > _STRAND and fields[_STRAND] in ("+", "-") else "."
            yield BedInterval(fields[0], start, end, name, strand, _coding(fields, start, end, where), number)


def _coding(fields: Sequence[str], start: int, end: int, where: str) -> tuple[tuple[int, int], ...]:
    """The blocks within the thick part."""
    if len(fields) <= _THICK_END:
        return ((start, end),) if start < end else ()
    thick_start, thick_end = _numbers(fields[_THICK_START : _THICK_END + 1], where)
    blocks = [(start, end)]
    if len(fields) > _STARTS:
        sizes, starts = (_numbers(fields[i].strip(",").split(","), where) for i in (_SIZES, _STARTS))
        if len(sizes) != len(starts):
            raise DataError(f"{where}: has {len(sizes)} block sizes and {len(starts)} block starts")
        blocks = [(start + offset, start + offset + size) for offset, size in zip(starts, sizes, strict=True)]
    if (last := max(block[1] for block in blocks)) > end:
        raise DataError(f"{where}: a block ends at {last}, behind the end of the interval, {end}")
    parts = [(max(first, thick_start), min(last, thick_end)) for first, last in sorted(blocks)]
    return tuple(part for part in parts if part[0] < part[1])


def _numbers(fields: Sequence[str], where: str) -> list[int]:
    for field in fields:
        if not _POSITION.fullmatch(field):
            raise DataError(f"{where}: not BED; {field[:20]!r} is not a position")
    return [int(field) for field in fields]
