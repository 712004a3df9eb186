"""Checks of what a user gave. Each is one line that names the value, in the kind of `UserError` that the caller raises.

optimizer.lr: must be a number above 0, got -1.0
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hnet_lm.errors import ConfigError, UserError, unknown_key

LARGEST = 1_000_000
"""Of any size of an architecture: a product of three still fits an index."""

Error = type[UserError]


def require_whole(
    name: str, value: Any, least: int | None = None, most: int | None = None, *, error: Error = ConfigError
) -> None:
    is_in = isinstance(value, int) and not isinstance(value, bool)
    if not is_in or (least is not None and value < least) or (most is not None and value > most):
        raise error(f"{name}: must be a whole number{_range(least, None, most, None)}, got {value!r}")


def require_number(
    name: str,
    value: Any,
    least: float | None = None,
    most: float | None = None,
    *,
    above: float | None = None,
    below: float | None = None,
    error: Error = ConfigError,
) -> None:
    """Finite, from `least` on or above `above`, and to `most` or below `below`."""
    is_in = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    is_in = is_in and (least is None or value >= least) and (most is None or value <= most)
    if not is_in or (above is not None and value <= above) or (below is not None and value >= below):
        raise error(f"{name}: must be a number{_range(least, above, most, below)}, got {value!r}")


def require_bool(name: str, value: Any, *, error: Error = ConfigError) -> None:
    if not isinstance(value, bool):
        raise error(f"{name}: must be true or false, got {value!r}")


def require_choice(name: str, value: Any, choices: Sequence[str], *, error: Error = ConfigError) -> None:
    if value not in choices:
        raise error(f"{name}: must be one of {', '.join(map(repr, choices))}, got {value!r}")


def require_size(name: str, value: Any, least: int) -> None:
    """A size of an architecture."""
    require_whole(name, value, least, LARGEST)


def per_stage(name: str, values: Any, num_stages: int) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"{name}: must be a list with one entry per stage, got {values!r}")
    if len(values) != num_stages:
        raise ConfigError(f"{name}: arch_layout has {num_stages} stages, but {len(values)} entries are given")
    return list(values)


def check_keys(data: Any, known: Sequence[str], required: Sequence[str], where: str) -> None:
    if not isinstance(data, Mapping):
        raise ConfigError(f"{where}: must be an object with the keys {', '.join(known)}, got {data!r}")
    for key in data:
        if key not in known:
            raise unknown_key(str(key), known, where)
    for key in required:
        if key not in data:
            raise ConfigError(f"{where}: {key!r} is missing")


def _range(least: float | None, above: float | None, most: float | None, below: float | None) -> str:
    if least is not None and most is not None:
        return f" from {_plain(least)} to {_plain(most)}"
    bounds = [f"above {_plain(above)}"] if above is not None else []
    bounds += [f"{_plain(least)} or more"] if least is not None else []
    bounds += [f"{_plain(most)} or less"] if most is not None else []
    bounds += [f"below {_plain(below)}"] if below is not None else []
    separator = " " if above is not None or (below is not None and least is None) else ", "
    return separator + " and ".join(bounds) if bounds else ""


def _plain(number: float) -> str:
    """A whole number with all its digits."""
    return str(int(number)) if float(number).is_integer() else f"{number:g}"
