"""From bytes to text, piece by piece: what has arrived is delivered as soon as it is certain.

Held back are bytes that could begin a stop string, and bytes that could begin a character. Joined, the pieces are
exactly `data.decode("utf-8", "replace")` of all bytes before the stop, however the bytes were split.
"""

import codecs
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Piece:
    """Bytes that no stop string can cut off any more, and the text they complete (often not of these bytes alone)."""

    data: bytes
    text: str


class TextStream:
    """Cuts at the first stop string and decodes. The stop that is complete first counts; of several, the longest."""

    def __init__(self, stops: Sequence[bytes] = ()) -> None:
        self._matchers = [_Matcher(stop) for stop in stops]
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = bytearray()
        self.stopped = False

    def push(self, data: bytes) -> Piece:
        """What is certain after these bytes. After a stop nothing more comes: the rest of `data` is dropped."""
        if not self._matchers:
            return self._deliver(data)
        for byte in data:
            if self.stopped:
                break
            self._held.append(byte)
            matched = [m.length for m in self._matchers if m.push(byte)]
            if matched:
                del self._held[-max(matched) :]
                self.stopped = True
        pending = 0 if self.stopped else max(matcher.matched for matcher in self._matchers)
        certain = bytes(self._held[: len(self._held) - pending])
        del self._held[: len(certain)]
        return self._deliver(certain)

    def finish(self) -> Piece:
        """All that is still held: the beginning of a stop that never came, an incomplete character (replaced)."""
        data = bytes(self._held)
        self._held.clear()
        return Piece(data, self._decoder.decode(data, final=True))

    def _deliver(self, data: bytes) -> Piece:
        return Piece(data, self._decoder.decode(data))


class _Matcher:
    """How much of one stop string the last bytes are (Knuth, Morris and Pratt): constant work a byte on average."""

    def __init__(self, stop: bytes) -> None:
        self._stop = stop
        self._fallback = [0] * len(stop)  # [i]: the longest proper border of stop[:i + 1]
        matched = 0
        for index in range(1, len(stop)):
            matched = self._extend(matched, stop[index])
            self._fallback[index] = matched
        self.matched = 0

    @property
    def length(self) -> int:
        return len(self._stop)

    def push(self, byte: int) -> bool:
        """Whether the stop string ends with this byte. Not to be called again after it has."""
        self.matched = self._extend(self.matched, byte)
        return self.matched == len(self._stop)

    def _extend(self, matched: int, byte: int) -> int:
        while matched and self._stop[matched] != byte:
            matched = self._fallback[matched - 1]
        return matched + (self._stop[matched] == byte)
