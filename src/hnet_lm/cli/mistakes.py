"""Turns a user's mistake that a library or the system finds first into one line.

numpy, torch, codecs, safetensors and the system have their own errors for a missing file, a full disk or too little
memory. Any other error is a bug of this package, and keeps its traceback.
"""

import os

from hnet_lm.errors import UserError

MISTAKE = 2
"""The exit code."""

_DAMAGED_FILE = ("SafetensorError", "LZMAError", "UnpicklingError", "BadGzipFile", "ZstdError")
_OUT_OF_MEMORY = ("OutOfMemoryError", "MemoryError")
_TORCH_ALLOCATION = ("can't allocate memory", "not enough memory", "out of memory")  # of a plain RuntimeError


def explain(error: Exception) -> str | None:
    """The line for an error that the user can fix; None for any other."""
    if isinstance(error, UserError):
        return str(error)
    line = _line(error)
    return None if line is None else " ".join(line.split())


def _line(error: Exception) -> str | None:
    names = {kind.__name__ for kind in type(error).__mro__}  # the libraries may not be imported yet, or installed
    said = str(error)
    if isinstance(error, OSError):
        return _of_the_system(error)
    if isinstance(error, UnicodeDecodeError):
        byte = error.object[error.start]
        return f"not text in {error.encoding}: byte {error.start} is {byte:#04x}"
    if isinstance(error, UnicodeEncodeError):
        character = f"U+{ord(error.object[error.start]):04X}"
        return f"{error.encoding} has no {character}, which is character {error.start} of a text"
    if names & set(_OUT_OF_MEMORY) or (isinstance(error, RuntimeError) and any(w in said for w in _TORCH_ALLOCATION)):
        return f"there is not enough memory: {said or 'give less at once'}"
    if names & set(_DAMAGED_FILE):
        return f"a file is damaged or of another kind: {said}"
    return None


def _of_the_system(error: OSError) -> str:
    reason = error.strerror or str(error) or type(error).__name__
    paths = [os.fsdecode(name) for name in (error.filename, error.filename2) if isinstance(name, str | bytes)]
    return ": ".join([" to ".join(paths), reason]) if paths else reason
