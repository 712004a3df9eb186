"""Zstandard files as a stream. The only file that needs the package `zstandard`."""

import io
from typing import Any, BinaryIO

import zstandard

READ_BYTES = 1 << 15
MAX_WINDOW = 1 << 31  # the largest there is (`zstd --long=31`): public dumps are written so


class ZstdFile(io.RawIOBase):
    """Reads all frames of a Zstandard file; a file that ends inside a frame raises EOFError."""

    def __init__(self, raw: BinaryIO) -> None:
        self._raw = raw
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW)
        self._frame = self._decompressor.decompressobj()
        self._frame_has_begun = False
        self._compressed = b""
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        while not self._ready:
            if not self._fill():
                return 0
        taken = min(len(buffer), len(self._ready))
        buffer[:taken] = self._ready[:taken]
        self._ready = self._ready[taken:]
        return taken

    def _fill(self) -> bool:
        """Decompresses the next piece of the file; False at its end."""
        if not self._compressed:
            self._compressed = self._raw.read(READ_BYTES)
        if not self._compressed:
            if self._frame_has_begun:
                raise EOFError("the Zstandard data ends inside a frame")
            return False
        try:
            self._ready = memoryview(self._frame.decompress(self._compressed))
        except zstandard.ZstdError as error:
            raise OSError(f"damaged Zstandard data: {error}") from error
        self._frame_has_begun = not self._frame.eof
        self._compressed = self._frame.unused_data
        if self._frame.eof:
            self._frame = self._decompressor.decompressobj()
        return True

    def close(self) -> None:
        self._raw.close()
        super().close()
