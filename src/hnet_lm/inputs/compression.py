"""Compression: which kind a stream has, by its first bytes, and the stream decompressed block by block.

All members (gzip, bgzip), frames (zstd) and streams (xz, bzip2) of a file are read, one after the other.
"""

import bz2
import gzip
import io
import lzma
from typing import Any, Literal

from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf

Compression = Literal["gzip", "xz", "bzip2", "zstd"]

COMPRESSION_OF_SUFFIX: dict[str, Compression] = {
    ".gz": "gzip",
    ".bgz": "gzip",
    ".xz": "xz",
    ".bz2": "bzip2",
    ".zst": "zstd",
    ".zstd": "zstd",
}
FIRST_BYTES: dict[bytes, Compression] = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\x00": "xz",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x50 + kind]) + b"\x2a\x4d\x18": "zstd" for kind in range(16)},  # a skippable frame, as pzstd writes
}
BZIP2_BLOCKS = (b"1AY&SY", b"\x17rE8P\x90")  # a block, or the end of the stream, stands behind "BZh" and a digit


def compression_of(head: bytes, suffix: str) -> Compression | None:
    """What the first bytes say; where they say nothing, what the name does, so that a damaged file is found out."""
    for first, kind in FIRST_BYTES.items():
        if head.startswith(first) and (kind != "bzip2" or head[4:10] in BZIP2_BLOCKS):
            return kind
    return COMPRESSION_OF_SUFFIX.get(suffix)


def decompressed(raw: io.BufferedReader, kind: Compression, path: str) -> Any:
    """A raw stream of the decompressed bytes; closing it closes `raw`."""
    match kind:
        case "gzip":
            return _AsItComes(gzip.GzipFile(fileobj=raw), raw)
        case "xz":
            return _AsItComes(lzma.LZMAFile(raw), raw)
        case "bzip2":
            return _AsItComes(bz2.BZ2File(raw), raw)
    return import_leaf("hnet_lm.inputs.zstd", "train", f"reading {path}", DataError).ZstdFile(raw)


class _AsItComes(io.RawIOBase):
    """Hands on what a decompressor has ready, without waiting for more: records before a damage are kept."""

    def __init__(self, stream: io.BufferedIOBase, raw: io.BufferedReader) -> None:
        self._stream = stream
        self._raw = raw

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        return self._stream.readinto1(buffer)

    def close(self) -> None:
        self._stream.close()
        self._raw.close()
        super().close()
