"""Boundaries to compare a chunker's with: each function gives the byte offsets where a reference starts a piece."""

import re
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.inputs import decoded_lines, opened

POSITION = re.compile(r"[0-9]{1,15}")
_SPACES = re.compile(rb"\s+")  # of bytes: ASCII white space


def space_offsets(data: bytes) -> np.ndarray:
    """The first byte of every run of white space: where pieces like " word" start."""
    return _offsets(match.start() for match in _SPACES.finditer(data))


def after_space_offsets(data: bytes) -> np.ndarray:
    """The first byte after every run of white space: where words start."""
    return _offsets(match.end() for match in _SPACES.finditer(data))


def word_offsets(data: bytes, words: Iterable[str]) -> np.ndarray:
    """Where the given words start: words in the order in which the text has them, as a segmenter writes them.

    Text between two words (spaces, punctuation left out) is passed over. Raises DataError for a word that does not
    follow.
    """
    starts, position = [], 0
    for index, word in enumerate(words):
        encoded = word.encode("utf-8")
        start = data.find(encoded, position)
        if start < 0:
            raise DataError(
                f"words: word {index + 1}, {word!r}, does not occur in the text after byte {position}; "
                "give the words in the order of the text"
            )
        starts.append(start)
        position = start + len(encoded)
    return _offsets(starts)


def codon_offsets(num_bases: int, frame: int = 0) -> np.ndarray:
    """Every third base from `frame` (0, 1 or 2)."""
    if frame not in (0, 1, 2):
        raise DataError(f"codon frame must be 0, 1 or 2, got {frame}")
    return np.arange(frame, num_bases, 3)


def bed_offsets(path: str | Path, sequence: str | None, num_bases: int, origin: int = 0) -> np.ndarray:
    """Starts and ends of a BED file's intervals on `sequence` (None: every line), as offsets into the text.

    BED counts from 0 and leaves the end out, so an end is the first base behind. `origin` is the genome position of
    the text's first base. The file may be compressed, or a pipe. Raises DataError for a line that is not BED, and where
    no interval meets the text.
    """
    marked: set[int] = set()
    with opened(path) as stream:
        for number, line in enumerate(decoded_lines(stream, str(path)), start=1):
            if not line.strip() or line.startswith(("#", "track", "browser")):
                continue
            fields = line.split("\t", 3) if "\t" in line else line.split(maxsplit=3)
            positions = [field.strip() for field in fields[1:3]]
            if len(fields) < 3 or not all(map(POSITION.fullmatch, positions)):
                raise DataError(
                    f"{path}, line {number}: not BED; expected a name, a start and an end, got {line.strip()[:80]!r}"
                )
            if sequence is None or fields[0] == sequence:
                offsets = (int(position) - origin for position in positions)
                marked.update(offset for offset in offsets if 0 <= offset < num_bases)
    if not marked:
        where = "any sequence" if sequence is None else f"{sequence!r}"
        raise DataError(
            f"{path}: no interval of {where} begins or ends in positions {origin} to {origin + num_bases}; "
            "check the sequence name and the origin"
        )
    return _offsets(marked)


def _offsets(values: Iterable[int]) -> np.ndarray:
    return np.unique(np.fromiter(values, dtype=np.int64))
