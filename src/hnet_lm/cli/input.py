"""Files and standard input as commands read them."""

import sys
from pathlib import Path

from hnet_lm.errors import DataError

STANDARD_INPUT = Path("-")


def read_bytes(path: Path) -> bytes:
    """A whole file; `-` is standard input. Raises DataError."""
    if path == STANDARD_INPUT:
        return sys.stdin.buffer.read()
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error


def read_text(path: Path) -> str:
    """A whole file of UTF-8. Raises DataError."""
    try:
        return read_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file in UTF-8 (byte {error.start})") from error
