"""Reference boundaries for comparison with a chunker's: each function gives the byte offsets where pieces start."""

import re
from collections.abc import Iterable

import numpy as np

from hnet_lm.errors import DataError
from hnet_lm.inspect.characters import utf8_lengths

_SPACES = re.compile(rb"\s+")  # of bytes: ASCII white space


def space_offsets(data: bytes) -> np.ndarray:
    """The first byte of every run of white space: where pieces like " word" start."""
    return _offsets(match.start() for match in _SPACES.finditer(data))


def after_space_offsets(data: bytes) -> np.ndarray:
    """The first byte after every run of white space: where words start."""
    return _offsets(match.end() for match in _SPACES.finditer(data))


def character_offsets(data: bytes) -> np.ndarray:
    """The first byte of every character; a byte that is not UTF-8 counts as a character."""
    lengths = utf8_lengths(data.decode("utf-8", "surrogateescape"))
    return np.cumsum(lengths) - lengths


def word_offsets(data: bytes, words: Iterable[str]) -> np.ndarray:
    """Where the given words start. They must be in the order of the text, as a segmenter writes them.

    Text between two words (spaces, omitted punctuation) is skipped. Raises DataError for a word that does not follow.
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


def _offsets(values: Iterable[int]) -> np.ndarray:
    return np.unique(np.fromiter(values, dtype=np.int64))
