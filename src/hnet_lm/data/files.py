"""Finding and opening the files of a source: globs, remote paths, and decompression as a stream.

`open_stream` gives one readable binary stream whatever the file's compression and wherever it lies. Compressed files
are decompressed block by block, all members of them; going on in the middle of one decompresses it again up to there.
"""

import glob
import gzip
import importlib
import io
import lzma
import os
import zlib
from types import ModuleType
from typing import Any

from hnet_lm.errors import DataError

BUFFER_BYTES = 1 << 20
COMPRESSION_SUFFIXES = (".gz", ".xz", ".zst")
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)  # what a missing, unreadable or damaged file raises


def load_leaf(module: str, package: str, extra: str, purpose: str) -> ModuleType:
    """The leaf module that needs an optional package. Raises DataError that says what to install."""
    try:
        return importlib.import_module(f"hnet_lm.data.{module}")
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.startswith("hnet_lm"):
            raise
        message = f"{purpose} needs the package {package}: pip install 'hnet-lm[{extra}]'"
        raise DataError(message) from error


def is_remote(path: str) -> bool:
    return "://" in path


def expand(pattern: str) -> list[str]:
    """The files that a path or a glob names, sorted. Raises DataError if there is none."""
    if is_remote(pattern):
        paths = load_leaf("remote", "fsspec", "train", f"reading {pattern}").expand(pattern)
    elif glob.has_magic(pattern) and not os.path.exists(pattern):
        paths = sorted(path for path in glob.glob(pattern, recursive=True) if os.path.isfile(path))
        if not paths:
            raise DataError(f"no file matches {pattern}")
    elif os.path.isdir(pattern):
        raise DataError(f"{pattern} is a directory; name its files, for example {os.path.join(pattern, '*.txt')}")
    else:
        paths = [pattern]
    return paths


def content_suffix(path: str) -> str:
    """The suffix that names the format, lower case, below a suffix that names the compression: `.txt` of `a.txt.gz`."""
    name, suffix = os.path.splitext(path.lower())
    return os.path.splitext(name)[1] if is_compressed(path) else suffix


def is_compressed(path: str) -> bool:
    return os.path.splitext(path.lower())[1] in COMPRESSION_SUFFIXES


def open_raw(path: str) -> io.BufferedReader:
    """The file's bytes as they are stored."""
    if is_remote(path):
        remote = load_leaf("remote", "fsspec", "train", f"reading {path}").open_file(path)
        file: Any = io.BufferedReader(remote, BUFFER_BYTES)  # of a remote file: a raw one in all but type
        return file
    return open(path, "rb")


def open_stream(path: str, offset: int = 0) -> io.BufferedReader:
    """The file's bytes, decompressed, from `offset` (in decompressed bytes) on."""
    raw = open_raw(path)
    if not is_compressed(path):
        raw.seek(offset)
        return raw
    stream = io.BufferedReader(_decompressed(raw, path), BUFFER_BYTES)
    _discard(stream, offset)
    return stream


def _decompressed(raw: io.BufferedReader, path: str) -> Any:
    match os.path.splitext(path.lower())[1]:
        case ".gz":
            return _AsItComes(gzip.GzipFile(fileobj=raw), raw)
        case ".xz":
            return _AsItComes(lzma.LZMAFile(raw), raw)
    zstd = load_leaf("zstd", "zstandard", "train", f"reading {path}")
    return zstd.ZstdFile(raw)


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


def require_content(stream: io.BufferedReader, path: str) -> None:
    """Raises DataError if the stream, at its start, has nothing to read."""
    if not stream.peek(1):
        raise DataError(f"{path} is empty")


def _discard(stream: io.BufferedReader, num_bytes: int) -> None:
    while num_bytes > 0:
        skipped = len(stream.read(min(num_bytes, BUFFER_BYTES)))
        if skipped == 0:
            raise EOFError("the file ends before the place where reading stopped last time; was it changed?")
        num_bytes -= skipped
