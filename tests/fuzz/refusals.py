"""What a parser may do with bytes that nobody wrote on purpose: read them, or refuse them in one line."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from hnet_lm.errors import UserError

T = TypeVar("T")
LONGEST = 8000  # characters: a message may repeat a value that it refuses, and inputs have at most 4096 bytes
_folder = tempfile.TemporaryDirectory(prefix="fuzz-")


def file_of(data: bytes, name: str = "input") -> Path:
    """A file with these bytes; the one before it under the same name is replaced."""
    path = Path(_folder.name, name)
    path.write_bytes(data)
    return path


def read_or_refused(read: Callable[[], T]) -> T | None:
    """What was read, or None for a refusal, which must be one line. Any other error goes through, and is a fault."""
    try:
        return read()
    except UserError as error:
        assert_one_line(str(error))
        return None


def assert_one_line(message: str) -> None:
    assert message.strip()
    assert len(message.splitlines()) == 1, repr(message)
    assert len(message) < LONGEST
