"""Checks of a configuration's values, each a `ConfigError` that names the key."""

from collections.abc import Mapping, Sequence
from typing import Any

from hnet_lm.errors import ConfigError, unknown_key

LARGEST = 1_000_000  # of any size here: a product of three still fits an index


def per_stage(name: str, values: Any, num_stages: int) -> list[Any]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise ConfigError(f"{name}: must be a list with one entry a stage, got {values!r}")
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


def require_int(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= LARGEST:
        raise ConfigError(f"{name}: must be a whole number from {least} to {LARGEST}, got {value!r}")


def require_bool(name: str, value: Any) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: must be true or false, got {value!r}")


def require_special_ids(special_ids: Any, vocab_size: int) -> None:
    if not isinstance(special_ids, tuple) or len(special_ids) != 2:
        raise ConfigError(f"special_ids: must be two ids, of BOS and of EOS, got {special_ids!r}")
    for id in special_ids:
        require_int("special_ids", id, least=0)
        if id >= vocab_size:
            raise ConfigError(f"special_ids: {id} is beyond a vocabulary of {vocab_size}")
