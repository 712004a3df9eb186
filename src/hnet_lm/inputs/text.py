"""Text that people edit: UTF-8, with or without a byte-order mark, and lines that end as they do on any system."""

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hnet_lm.errors import DataError, UserError
from hnet_lm.inputs.opening import BUFFER_BYTES, opened
from hnet_lm.inputs.rejoined import Rejoined

UTF8_MARK = b"\xef\xbb\xbf"
OTHER_MARKS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}


def read_bytes(path: str | Path, limit: int | None = None, error: type[UserError] = DataError) -> bytes:
    """All bytes of an input, or the first `limit` of them. Raises `error`."""
    with opened(path, error) as stream:
        return stream.read() if limit is None else stream.read(limit)


def read_text(path: str | Path, error: type[UserError] = DataError) -> str:
    """All of a text in UTF-8, without its byte-order mark. Raises `error`, for another encoding too."""
    with opened(path, error) as stream:
        data = stream.read()
    _refuse_other_encodings(data, path, error)
    try:
        return data.removeprefix(UTF8_MARK).decode("utf-8")
    except UnicodeDecodeError as cause:
        line = data.count(b"\n", 0, cause.start) + 1
        raise error(f"{path}, line {line}: not text in UTF-8 (byte {cause.start})") from cause


def read_lines(path: str | Path, error: type[UserError] = DataError) -> list[str]:
    """The lines of a text without their ends, which are LF or CR LF and nothing else: U+2028 stands inside a line."""
    lines = [line.removesuffix("\r") for line in read_text(path, error).split("\n")]
    return lines if lines[-1] else lines[:-1]


def without_mark(stream: io.BufferedReader, path: str) -> tuple[io.BufferedReader, int]:
    """The stream behind its byte-order mark, if it has one, and how many bytes that was. For streams at their start.

    Raises DataError where the mark says that this is no UTF-8.
    """
    head = stream.read(4)
    _refuse_other_encodings(head, path, DataError)
    size = len(UTF8_MARK) if head.startswith(UTF8_MARK) else 0
    rest: Any = io.BufferedReader(Rejoined(head[size:], stream), BUFFER_BYTES)
    return rest, size


def decoded_lines(stream: io.BufferedReader, path: str, errors: str = "replace") -> Iterator[str]:
    """The lines of a text as they come, behind its byte-order mark; bytes that are not UTF-8 become U+FFFD."""
    marked, _ = without_mark(stream, path)
    for line in marked:
        yield line.decode("utf-8", errors).rstrip("\r\n")


def _refuse_other_encodings(head: bytes, path: str | Path, error: type[UserError]) -> None:
    for mark, name in OTHER_MARKS.items():
        if head.startswith(mark):
            raise error(f"{path}: is text in {name}; save it as UTF-8")
