"""FASTA: headers that begin with `>`, and lines of nucleotide codes.

A document is a stretch of one record: at most `window` bases, and with `n_runs = "split"` without an N. Its number in
the file is what the parts call their record. Documents are given whole, and the strand is drawn for each.
"""

import hashlib
import re
from collections.abc import Iterator

from hnet_lm.data.files import open_stream, require_content
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError

NUCLEOTIDE_CODES = b"ACGTUNRYSWKMBDHVacgtunryswkmbdhv"
PLAIN_BASES = b"ACGTacgt"
COMPLEMENT = bytes.maketrans(NUCLEOTIDE_CODES, b"TGCAANYRSWMKVHDBtgcaanyrswmkvhdb")
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
                bases = bases[::-1].translate(COMPLEMENT)
        return bases


def read_fasta(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The documents of all records. A record with a letter that is no nucleotide code ends there."""
    start = position or {"byte": 0, "line": 0, "column": 0, "record": 0}
    byte, number, column = start["byte"], start["line"], start["column"]
    documents = _Documents(request, start["record"])
    n_runs = request.config.fasta.n_runs
    in_record, ignoring = position is not None, False
    with open_stream(request.path, byte) as stream:
        if position is None:
            require_content(stream, request.path)
        for line in stream:
            bases = line.rstrip()
            plain = in_record and not ignoring and column == 0 and not bases.translate(None, PLAIN_BASES)
            if plain and len(bases) <= documents.room:  # most lines of most files: nothing to decide
                documents.add(bases)
                byte += len(line)
                number += 1
                continue
            here = {"byte": byte, "line": number}
            byte += len(line)
            number += 1
            if line.startswith(b">"):
                yield from documents.finish({**here, "column": 0})
                in_record, ignoring = True, False
                continue
            if ignoring or not bases:
                continue
            problem = _problem(bases, in_record)
            if problem:
                yield from documents.finish({**here, "column": 0})
                request.report(DataError(f"{request.path}:{number}: {problem}"))
                ignoring = True
                continue
            spans = [(0, len(bases))] if n_runs == "keep" else [m.span() for m in OUTSIDE_N_RUNS.finditer(bases)]
            end_of_last = column
            for begin, end in spans:
                begin = max(begin, column)
                if n_runs == "split" and begin > end_of_last:
                    yield from documents.finish({**here, "column": begin})
                while end - begin > documents.room:
                    full = begin + documents.room
                    documents.add(bases[begin:full])
                    yield from documents.finish({**here, "column": full})
                    begin = full
                if end > begin:
                    documents.add(bases[begin:end])
                end_of_last = end
            if n_runs == "split" and end_of_last < len(bases):
                yield from documents.finish({**here, "column": len(bases)})
            column = 0
        yield from documents.finish({"byte": byte, "line": number, "column": 0})


def _problem(bases: bytes, in_record: bool) -> str:
    """What is wrong with a line of a record; empty if nothing is."""
    if not in_record:
        return "bases before the first header (a line that begins with '>')"
    strange = bases.translate(None, NUCLEOTIDE_CODES)
    return f"{chr(strange[0])!r} is not a nucleotide code" if strange else ""
