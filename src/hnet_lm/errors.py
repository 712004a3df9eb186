"""The errors that are a user's to mend: each one clear line that says what is wrong, where, and what to do."""

import difflib
from collections.abc import Iterable


class UserError(ValueError):
    """A mistake in what the user gave. The command line prints its message and exits with 2, without a traceback."""


class ConfigError(UserError):
    """A configuration that is not one: an unknown key, a layout that does not parse, sizes that do not fit."""


class CheckpointError(UserError):
    """Weights or a saved directory that cannot be read, or that do not fit the model."""


class DataError(UserError):
    """A data source that cannot be read; the message names the file and, where there is one, the line."""


def unknown_key(key: str, known: Iterable[str], where: str) -> ConfigError:
    """The error for a key nobody knows, naming the nearest known one."""
    names = sorted(known)
    near = difflib.get_close_matches(key, names, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"known keys: {', '.join(names)}"
    return ConfigError(f"{where}: unknown key {key!r}; {hint}")


def first_line(error: BaseException) -> str:
    """What an error of foreign code says, in one line that begins with its type."""
    said = str(error).partition("\n")[0]
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
