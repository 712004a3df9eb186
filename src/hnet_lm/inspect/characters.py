"""Bytes as the characters that a picture shows, each with the bytes it covers.

A character here is what stands alone on a screen: a code point with the combining marks, joiners and variation
selectors that follow it. Control characters are drawn as control pictures, and bytes that are not UTF-8 as `\\xff`:
every byte of a text is visible. A character is drawn whole, even if a chunk boundary falls inside it.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from rich.cells import cell_len

NEWLINE = "⏎"
MAX_JOINED = 32  # code points in a character: so that a text of combining marks is not one character
_JOINED_CATEGORIES = {"Mn", "Me", "Cf"}  # marks and format characters, which have no cell of their own


@dataclass(frozen=True, eq=False)
class Characters:
    """The characters of a text: `glyphs`, `starts` (n,) their first bytes, `widths` (n,) their terminal cells."""

    glyphs: list[str]
    starts: np.ndarray
    widths: np.ndarray
    num_bytes: int

    def __len__(self) -> int:
        return len(self.glyphs)

    @property
    def ends(self) -> np.ndarray:
        return np.append(self.starts[1:], self.num_bytes)[: len(self)]

    def rows(self, width: int) -> Iterator[range]:
        """The characters of each row of `width` cells: as many as fit, and no more after a line break."""
        begin, used = 0, 0
        for index, (glyph, cells) in enumerate(zip(self.glyphs, self.widths.tolist(), strict=True)):
            if used + cells > width and index > begin:
                yield range(begin, index)
                begin, used = index, 0
            used += cells
            if glyph == NEWLINE:
                yield range(begin, index + 1)
                begin, used = index + 1, 0
        if begin < len(self):
            yield range(begin, len(self))

    def chunk_ids(self, chunk_starts: np.ndarray) -> np.ndarray:
        """The chunk that holds each character's first byte."""
        return np.searchsorted(chunk_starts, self.starts, side="right") - 1

    def opens(self, chunk_starts: np.ndarray) -> np.ndarray:
        """Whether a chunk starts with the character."""
        return np.isin(self.starts, chunk_starts)

    def torn(self, chunk_starts: np.ndarray) -> np.ndarray:
        """Whether a chunk starts inside the character."""
        after_first = np.searchsorted(chunk_starts, self.starts, side="right")
        return np.searchsorted(chunk_starts, self.ends, side="left") > after_first


def characters(data: bytes) -> Characters:
    """The characters of any bytes, valid UTF-8 or not."""
    text = data.decode("utf-8", "surrogateescape")
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    distinct, inverse = np.unique(codes, return_inverse=True)
    drawn = [_glyph(int(code)) for code in distinct]
    widths = np.array([cell_len(glyph) for glyph in drawn], dtype=np.int64)[inverse]
    joined = np.array([_is_joined(int(code)) for code in distinct], dtype=bool)[inverse]
    joined[:1] = False
    index = np.arange(len(joined))
    behind_head = index - np.maximum.accumulate(np.where(joined, 0, index))
    joined &= behind_head % MAX_JOINED != 0
    lengths = utf8_lengths(text)
    starts = np.cumsum(lengths) - lengths
    points = [drawn[index] for index in inverse.tolist()]
    if not joined.any():
        return Characters(points, starts, widths, len(data))
    heads = np.flatnonzero(~joined)
    bounds = [*heads.tolist(), len(points)]
    glyphs = ["".join(points[a:b]) for a, b in pairwise(bounds)]
    return Characters(glyphs, starts[heads], widths[heads], len(data))


def utf8_lengths(text: str) -> np.ndarray:
    """The bytes of each code point; 1 for the surrogates with which "surrogateescape" replaces invalid bytes."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    lengths = 1 + (codes >= 0x80) + (codes >= 0x800) + (codes >= 0x10000)
    lengths[(codes >= 0xDC80) & (codes <= 0xDCFF)] = 1
    return lengths


def _glyph(code: int) -> str:
    if code == 0x0A:
        return NEWLINE
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if unicodedata.category(chr(code)) in {"Cc", "Zl", "Zp"}:  # C1 controls and Unicode's own line ends
        return f"\\u{code:04x}"
    return chr(code)


def _is_joined(code: int) -> bool:
    return unicodedata.category(chr(code)) in _JOINED_CATEGORIES
