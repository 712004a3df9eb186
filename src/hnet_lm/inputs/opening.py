"""Opening: bytes as they are stored, and bytes decompressed, of files, standard input, pipes and URLs."""

import io
import lzma
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hnet_lm.errors import DataError, UserError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs.compression import Compression, compression_of, decompressed
from hnet_lm.inputs.paths import is_remote, local, name_suffix
from hnet_lm.inputs.rejoined import Rejoined

BUFFER_BYTES = 1 << 20
READ_ERRORS = (OSError, EOFError, lzma.LZMAError, zlib.error)  # what a missing, unreadable or damaged file raises
STANDARD_INPUT = "-"
HEAD_BYTES = 64  # enough for every mark that is looked for
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def open_input(path: str | Path, offset: int = 0) -> io.BufferedReader:
    """The input's bytes, decompressed, from `offset` (in decompressed bytes) on.

    Only an offset in an uncompressed file is a seek; in a pipe or a compressed file, what stands before is read and
    passed over. Raises one of READ_ERRORS, and DataError for a Git LFS pointer in place of the file.
    """
    path = str(path)
    stored = open_stored(path)
    try:
        stream, kind = _looked_at(stored, path)
        if kind is None and stream.seekable():
            stream.seek(offset, io.SEEK_CUR)
            return stream
        if kind is not None:
            stream = io.BufferedReader(decompressed(stream, kind, path), BUFFER_BYTES)
        _discard(stream, offset)
    except BaseException:
        stored.close()
        raise
    return stream


@contextmanager
def opened(path: str | Path, error: type[UserError] = DataError) -> Iterator[io.BufferedReader]:
    """`open_input` as a context in which every failure to read is one `error` that names the path and the reason."""
    try:
        with open_input(path) as stream:
            yield stream
    except READ_ERRORS as cause:
        raise error(f"{path}: cannot be read: {reason_of(cause)}") from cause


def open_stored(path: str | Path) -> io.BufferedReader:
    """The input's bytes as they are stored. Raises one of READ_ERRORS."""
    path = str(path)
    if path == STANDARD_INPUT:
        if sys.stdin is None:
            raise OSError("standard input is closed")
        return io.BufferedReader(Rejoined(b"", sys.stdin.buffer, closes=False), BUFFER_BYTES)
    if is_remote(path):
        remote = import_leaf("hnet_lm.inputs.remote", "train", f"reading {path}", DataError).open_file(path)
        file: Any = io.BufferedReader(remote, BUFFER_BYTES)  # of a remote file: a raw one in all but type
        return file
    try:
        return open(local(path), "rb")
    except ValueError as error:  # a name that no file can have, such as one with a zero byte
        raise OSError(str(error)) from error


def is_compressed(path: str | Path) -> bool:
    """Whether the file's bytes, or its name, say that it is compressed. Raises one of READ_ERRORS."""
    with open_stored(path) as stored:
        return _looked_at(stored, str(path))[1] is not None


def require_content(stream: io.BufferedReader, path: str) -> None:
    """Raises DataError if the stream, at its start, has nothing to read."""
    if not stream.peek(1):
        raise DataError(f"{path} is empty")


def reason_of(error: BaseException) -> str:
    """Why the system or a decompressor could not read, without the path, in one line."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error).partition("\n")[0] or type(error).__name__


def _looked_at(stored: io.BufferedReader, path: str) -> tuple[io.BufferedReader, Compression | None]:
    """The stream at its start again, and what its first bytes say of its compression."""
    head = stored.read(HEAD_BYTES)
    if head.startswith(LFS_POINTER):
        raise DataError(f"{path}: is a Git LFS pointer, not the file itself; fetch it with `git lfs pull`")
    stream: Any = stored
    if stored.seekable():
        stored.seek(-len(head), io.SEEK_CUR)
    else:
        stream = io.BufferedReader(Rejoined(head, stored), BUFFER_BYTES)
    return stream, compression_of(head, name_suffix(path))


def _discard(stream: io.BufferedReader, num_bytes: int) -> None:
    while num_bytes > 0:
        skipped = len(stream.read(min(num_bytes, BUFFER_BYTES)))
        if skipped == 0:
            raise EOFError("the file ends before the place where reading stopped last time; was it changed?")
        num_bytes -= skipped
