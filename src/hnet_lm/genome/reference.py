"""A reference genome, or stretches of one, by name and position.

A FASTA record whose name ends in `:start-end` (counted from 1, both included, as genome browsers write it) is that
stretch of the sequence before the colon; any other is a sequence from its first base on.
"""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

from hnet_lm.errors import DataError
from hnet_lm.genome.codes import NUCLEOTIDE_CODES
from hnet_lm.genome.regions import other_name, parse_region, region_name
from hnet_lm.inputs import opened, without_mark

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

    @property
    def name(self) -> str:
        """As genome browsers write it, `chr20:59,000,001-59,100,000`."""
        return region_name(self.sequence, self.start, self.end)

    def part(self, start: int, end: int) -> "Region":
        """Positions `start .. end - 1`, as far as the region has them."""
        start, end = max(start, self.start), min(end, self.end)
        return Region(self.sequence, start, self.bases[start - self.start : end - self.start])


class Reference:
    """The regions of a FASTA file."""

    def __init__(self, regions: Iterable[Region]) -> None:
        self.regions: dict[str, list[Region]] = {}
        for region in regions:
            self.regions.setdefault(region.sequence, []).append(region)

    @classmethod
    def read(cls, path: str | Path) -> "Reference":
        """All records, plain or compressed; they are held in memory. Raises DataError."""
        return cls(read_records(path))

    def region(self, sequence: str, start: int, end: int) -> Region | None:
        """The region that holds all of positions `start .. end - 1`."""
        regions = self.regions.get(sequence, [])
        return next((region for region in regions if region.start <= start and end <= region.end), None)

    def absence(self, sequence: str) -> str:
        """What the reference has instead of a place on a sequence, for a message."""
        return _absence(list(islice(self, 4)), sequence, self.regions.keys())

    def __iter__(self) -> Iterator[Region]:
        return (region for regions in self.regions.values() for region in regions)


def read_records(path: str | Path) -> Iterator[Region]:
    """The records of a FASTA file as they come, plain or compressed. Raises DataError, also where there is none."""
    found = False
    with opened(path) as stream:
        marked, _ = without_mark(stream, str(path))
        for region in _regions(marked, str(path)):
            found = True
            yield region
    if not found:
        raise DataError(f"{path}: has no FASTA record")


def stretch(records: Iterable[Region], wanted: str, path: str | Path) -> Region:
    """The region of this name (`chr20`, `chr20:59,000,001-59,100,000`) in the first record that has all of it.

    Records behind that one are not read. Raises DataError where none has it.
    """
    place = parse_region(wanted)
    sequence, start, end = place or (wanted, 0, 0)
    of_sequence: list[Region] = []
    others: list[Region] = []
    names: set[str] = set()
    for record in records:
        if record.sequence == wanted:
            return record
        if place is not None and record.sequence == sequence and record.start <= start and end <= record.end:
            return record.part(start, end)
        names.add(record.sequence)
        kept = of_sequence if record.sequence == sequence else others
        if len(kept) < 4:  # of the others the bases are not held
            kept.append(record)
    raise DataError(f"{wanted}: is not in {path}, which has {_absence([*of_sequence, *others], sequence, names)}")


def _absence(regions: list[Region], sequence: str, names: Iterable[str]) -> str:
    shown = [f"{region.sequence}:{region.start + 1}-{region.end}" for region in regions[:4]]
    places = ", ".join([*shown[:3], *(["..."] if len(shown) > 3 else [])])
    other = other_name(sequence)
    return f"{places}; it has {other!r}, so rename one of them" if other in names else places


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
            if strange := stripped.translate(None, NUCLEOTIDE_CODES):
                raise DataError(f"{path}, line {number}: {chr(strange[0])!r} is not a nucleotide code")
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
    try:
        place = parse_region(name)
    except DataError:
        place = None
    if place and place[2] - place[1] == len(bases):
        return Region(place[0], place[1], bases)
    return Region(name, 0, bases)
