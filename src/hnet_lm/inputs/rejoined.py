"""A stream whose first bytes were read to look at them, whole again: for streams that cannot seek."""

import io
from typing import Any


class Rejoined(io.RawIOBase):
    """The bytes already read, and then the rest of the stream that they came from."""

    def __init__(self, head: bytes, rest: io.BufferedIOBase | Any, *, closes: bool = True) -> None:
        """`closes`: closing this stream closes the other."""
        self._head = memoryview(head)
        self._rest = rest
        self._closes = closes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        if not self._head:
            return self._rest.readinto1(buffer)
        taken = min(len(buffer), len(self._head))
        buffer[:taken] = self._head[:taken]
        self._head = self._head[taken:]
        return taken

    def close(self) -> None:
        if self._closes:
            self._rest.close()
        super().close()
