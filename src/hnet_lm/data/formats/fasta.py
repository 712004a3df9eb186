"""FASTA: headers that begin with `>`, and lines of nucleotide codes.

A document is a section of one record: at most `window` bases, and without N if `n_runs = "split"`. Parts count
documents as records. Documents are yielded whole, and the strand is drawn for each.
"""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from hnet_lm.data.formats.format import DataFormat
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError
from hnet_lm.genome.codes import COMPLEMENT, NUCLEOTIDE_CODES
from hnet_lm.inputs import open_input, require_content, without_mark

PLAIN_BASES = b"ACGTacgt"
PIECE_BYTES = 1 << 16
OUTSIDE_N_RUNS = re.compile(rb"[^Nn]+")


class _Documents:
    """Collects the bases of the document being read, and makes it a part when it is full or its record ends."""

    def __init__(self, request: FileRequest, next_record: int) -> None:
        self.request = request
        self.record = next_record
        self.pieces: list[bytes] = []
        self.room = request.config.fasta.window

    def add(self, bases: bytes) -> None:
        self.pieces.append(bases)
        self.room -= len(bases)

    def finish(self, resume: dict[str, int]) -> Iterator[Part]:
        """The collected document, unless it is empty or another stream's; `resume` is where the next one begins."""
        if self.pieces:
            if self.request.wants(self.record):
                resume["record"] = self.record + 1
                yield Part(self._oriented(b"".join(self.pieces)), self.record, 0, True, True, resume)
            self.record += 1
            self.pieces = []
            self.room = self.request.config.fasta.window

    def _oriented(self, bases: bytes) -> bytes:
        options = self.request.config.fasta
        if options.fold_case:
            bases = bases.upper()
        if options.reverse_complement:
            key = repr((*self.request.random_key, self.record)).encode()
            if hashlib.blake2b(key, digest_size=1).digest()[0] & 1:
                bases = reverse_complement(bases)
        return bases


def reverse_complement(bases: bytes) -> bytes:
    """The other strand."""
    return bases[::-1].translate(COMPLEMENT)


def read_fasta(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The documents of all records. A record ends at a letter that is not a nucleotide code.

    Lines are read in pieces of at most `PIECE_BYTES`, so that a chromosome on one line is never in memory as a whole.
    """
    start = position or {"byte": 0, "line": 0, "inside": False, "record": 0}
    byte, number, inside = start["byte"], start["line"], start["inside"]
    documents = _Documents(request, start["record"])
    n_runs = request.config.fasta.n_runs
    in_record, in_header, ignoring, has_gap = position is not None, False, False, False
    with open_input(request.path, byte) as stream:
        if position is None:
            stream, byte = without_mark(stream, request.path)
            require_content(stream, request.path)
        for piece in iter(partial(stream.readline, PIECE_BYTES), b""):
            bases = piece.rstrip()
            here, byte = byte, byte + len(piece)
            starts_line, inside = not inside, not piece.endswith(b"\n")
            if starts_line:
                number += 1
                has_gap = False
                in_header = piece.startswith(b">")
            place = _Place(here, number, starts_line)
            if in_header:
                if starts_line:
                    yield from documents.finish(place.at(0))
                    in_record, ignoring = True, False
                continue
            had_gap, has_gap = has_gap, inside and (has_gap or len(bases) < len(piece))
            if ignoring or not bases:
                continue
            is_plain = in_record and not had_gap and not bases.translate(None, PLAIN_BASES)
            if is_plain and len(bases) <= documents.room:  # the usual case: nothing to decide
                documents.add(bases)
                continue
            problem = "" if is_plain else _problem(bases, in_record, had_gap)
            if problem:
                yield from documents.finish(place.at(0))
                request.report(DataError(f"{request.path}:{number}: {problem}"))
                ignoring = True
                continue
            spans = [(0, len(bases))] if n_runs == "keep" else [m.span() for m in OUTSIDE_N_RUNS.finditer(bases)]
            end_of_last = 0
            for begin, end in spans:
                if n_runs == "split" and begin > end_of_last:
                    yield from documents.finish(place.at(end_of_last))
                while end - begin > documents.room:
                    full = begin + documents.room
                    documents.add(bases[begin:full])
                    yield from documents.finish(place.at(full))
                    begin = full
                documents.add(bases[begin:end])
                end_of_last = end
            if n_runs == "split" and end_of_last < len(bases):
                yield from documents.finish(place.at(end_of_last))
        yield from documents.finish({"byte": byte, "line": number, "inside": inside})


class _Place(NamedTuple):
    """Where a piece of a line begins: the byte of the file, the number of the line, whether the line begins here."""

    byte: int
    line: int
    starts_line: bool

    def at(self, column: int) -> dict[str, int]:
        """The position of a byte of the piece; `line` counts the lines that have begun before it."""
        inside = column > 0 or not self.starts_line
        return {"byte": self.byte + column, "line": self.line if inside else self.line - 1, "inside": inside}


def _problem(bases: bytes, in_record: bool, had_gap: bool) -> str:
    """The fault of a line of a record; empty if there is none."""
    if not in_record:
        return "bases before the first header (a line that begins with '>')"
    strange = b" " if had_gap else bases.translate(None, NUCLEOTIDE_CODES)
    return f"{chr(strange[0])!r} is not a nucleotide code" if strange else ""


@dataclass(frozen=True)
class Fasta(DataFormat):
    """Records of nucleotide codes."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        return read_fasta(request, position)
