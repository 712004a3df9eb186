"""A reference genome, or stretches of one, by name and position.

A FASTA record whose name ends in `:start-end` (counted from 1, both included, as genome browsers write it) is that
stretch of the sequence before the colon; any other is a sequence from its first base on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hnet_lm.data.files import READ_ERRORS, open_stream
from hnet_lm.errors import DataError

STRETCH = re.compile(r"(.+):(\d+)-(\d+)")


@dataclass(frozen=True)
class Region:
    """Bases of a sequence from `start` on (counted from 0), in upper case."""

    sequence: str
    start: int
    bases: bytes

    @property
    def end(self) -> int:
        """The position behind the last base."""
        return self.start + len(self.bases)


class Reference:
    """The regions of a FASTA file."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions: dict[str, list[Region]] = {}
        for region in regions:
            self.regions.setdefault(region.sequence, []).append(region)

    @classmethod
    def read(cls, path: str | Path) -> "Reference":
        """All records, plain or compressed; they are held in memory. Raises DataError."""
        try:
            with open_stream(str(path)) as stream:
                reference = cls(_regions(stream, str(path)))
        except READ_ERRORS as error:
            raise DataError(f"{path}: cannot be read: {error}") from error
        if not reference.regions:
            raise DataError(f"{path}: has no FASTA record")
        return reference

    def region(self, sequence: str, start: int, end: int) -> Region | None:
        """The region that holds all of positions `start .. end - 1`."""
        regions = self.regions.get(sequence, [])
        return next((region for region in regions if region.start <= start and end <= region.end), None)

    def __iter__(self) -> Iterator[Region]:
        return (region for regions in self.regions.values() for region in regions)


def _regions(lines: Iterable[bytes], path: str) -> Iterator[Region]:
    name: str | None = None
    bases: list[bytes] = []
    for number, line in enumerate(lines, start=1):
        if line.startswith(b">"):
            if name is not None:
                yield _region(name, b"".join(bases))
            words = line[1:].decode("utf-8", "replace").split()
            if not words:
                raise DataError(f"{path}, line {number}: a record without a name")
            name, bases = words[0], []
        elif line.strip():
            if name is None:
                raise DataError(f"{path}, line {number}: not FASTA; bases before the first line that begins with '>'")
            bases.append(line.strip().upper())
    if name is not None:
        yield _region(name, b"".join(bases))


def _region(name: str, bases: bytes) -> Region:
    match = STRETCH.fullmatch(name)
    if match and int(match[3]) - int(match[2]) + 1 == len(bases):
        return Region(match[1], int(match[2]) - 1, bases)
    return Region(name, 0, bases)
