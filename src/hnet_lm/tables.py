"""Nested tables (TOML) to nested dataclasses, strictly: every key known, every value of its field's type."""

import dataclasses
import types
import typing
from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from hnet_lm.errors import ConfigError, unknown_key

T = TypeVar("T")


def from_table(cls: type[T], table: Mapping[str, Any], where: str = "") -> T:
    """An instance of dataclass `cls`. Raises ConfigError for unknown, missing and mistyped keys."""
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls)}  # pyright: ignore[reportArgumentType]
    values = {}
    for key, value in table.items():
        if key not in fields:
            raise unknown_key(key, fields, where or "run file")
        values[key] = _value(hints[key], value, f"{where}.{key}" if where else key)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if required and name not in values:
            raise ConfigError(f"{where or 'run file'}: {name!r} is missing")
    return cls(**values)


def to_table(config: Any) -> dict[str, Any]:
    """Back to plain dicts and lists, as JSON would have them."""
    return {key: _plain(value) for key, value in dataclasses.asdict(config).items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(child) for child in value]
    return value


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        (hint,) = (arg for arg in args if arg is not types.NoneType)  # optional fields are the only unions
        return _value(hint, value, where)
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: must be a table, got {value!r}")
        return from_table(typing.cast(type, hint), value, where)
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: must be a list, got {value!r}")
        return tuple(_value(args[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if origin is Literal:
        if value not in args:
            raise ConfigError(f"{where}: must be one of {', '.join(map(repr, args))}, got {value!r}")
        return value
    if hint is Any:
        return value
    if origin is dict:
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where}: must be a table, got {value!r}")
        return {key: _value(args[1], child, f"{where}.{key}") for key, child in value.items()}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: must be {_name(hint)}, got {value!r}")
    return value


def _name(hint: type) -> str:
    return {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}.get(hint, hint.__name__)
