"""A reference genome, or stretches of one, by name and position.

A FASTA record whose name ends in `:start-end` (counted from 1, both included, as genome browsers write it) is that
stretch of the sequence before the colon; any other is a sequence from its first base on.
"""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hnet_lm.errors import DataError
from hnet_lm.inputs import opened, without_mark

STRETCH = re.compile(r"(.+):(\d{1,15})-(\d{1,15})", re.ASCII)
PIECE_BYTES = 1 << 20  # lines are read in pieces: a chromosome may stand on one


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
        with opened(path) as stream:
            marked, _ = without_mark(stream, str(path))
            reference = cls(_regions(marked, str(path)))
        if not reference.regions:
            raise DataError(f"{path}: has no FASTA record")
        return reference

    def region(self, sequence: str, start: int, end: int) -> Region | None:
        """The region that holds all of positions `start .. end - 1`."""
        regions = self.regions.get(sequence, [])
        return next((region for region in regions if region.start <= start and end <= region.end), None)

    def __iter__(self) -> Iterator[Region]:
        return (region for regions in self.regions.values() for region in regions)


def _regions(stream: io.BufferedReader, path: str) -> Iterator[Region]:
    name: str | None = None
    header = b""
    bases = bytearray()
    number, starts_line = 0, True
    for piece in iter(partial(stream.readline, PIECE_BYTES), b""):
        number += starts_line
        in_header = piece.startswith(b">") if starts_line else bool(header)
        starts_line = piece.endswith(b"\n")
        if in_header:
            header += piece
            if name is not None:
                yield _region(name, bytes(bases))
            name, bases = None, bytearray()
            if starts_line:
                name, header = _name(header, f"{path}, line {number}"), b""
        elif stripped := piece.strip():
            if name is None:
                raise DataError(f"{path}, line {number}: not FASTA; bases before the first line that begins with '>'")
            bases += stripped.upper()
    if header:  # the file ends in it
        name = _name(header, f"{path}, line {number}")
    if name is not None:
        yield _region(name, bytes(bases))


def _name(header: bytes, where: str) -> str:
    words = header[1:].decode("utf-8", "replace").split(maxsplit=1)
    if not words:
        raise DataError(f"{where}: a record without a name")
    return words[0]


def _region(name: str, bases: bytes) -> Region:
    match = STRETCH.fullmatch(name)
    if match and int(match[3]) - int(match[2]) + 1 == len(bases):
        return Region(match[1], int(match[2]) - 1, bases)
    return Region(name, 0, bases)
