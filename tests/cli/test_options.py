"""Options are named alike in all commands: one name, one type and one short name for one thing."""

import dataclasses
import typing
from collections import defaultdict
from collections.abc import Iterator
from typing import Annotated, Any

import pytest

from hnet_lm.cli.evaluate import EVALUATIONS
from hnet_lm.cli.export import EXPORTS
from hnet_lm.cli.main import COMMANDS, module_of

OTHER_NAMES = {
    "dtype": "precision",
    "weights": "precision",
    "directory": "output",
    "out": "output",
    "out_dir": "output",
    "random_seed": "seed",
    "limit_bytes": "max_bytes",
    "num_bytes": "max_bytes",
}


GROUPS: dict[str, Any] = {"evaluate": EVALUATIONS, "export": EXPORTS}


def command_types() -> Iterator[tuple[str, Any]]:
    for name in COMMANDS:
        if name not in GROUPS:
            yield name, module_of(name).Command
    for name, members in GROUPS.items():
        yield from ((name, members.find(member, name)) for member in members)


def options(kind: Any) -> Iterator[tuple[str, Any]]:
    """Names and types of the options, those of groups whose prefix is left out among them; no positional arguments."""
    for name, hint in typing.get_type_hints(kind, include_extras=True).items():
        marks = [str(mark) for mark in getattr(hint, "__metadata__", ())]
        plain = hint
        while typing.get_origin(plain) is Annotated:
            plain = typing.get_args(plain)[0]
        if any("Positional" in mark or "POSITIONAL" in mark for mark in marks):
            continue
        if dataclasses.is_dataclass(plain):
            if any("OMIT_ARG_PREFIXES" in mark or "OmitArgPrefixes" in mark for mark in marks):
                yield from options(plain)
        else:
            yield name, hint


@pytest.fixture(scope="module")
def inventory() -> dict[str, dict[str, Any]]:
    """Of each option the commands that have it, with its type."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for command, kind in command_types():
        for name, hint in options(kind):
            found[name][f"{command} {kind.__name__}"] = hint
    return found


def test_the_inventory_is_of_all_commands(inventory: dict[str, dict[str, Any]]):
    assert {"max_bytes", "device", "precision", "seed", "output", "json", "on_error"} <= inventory.keys()
    assert {name.split()[0] for name in inventory["device"]} == {
        "serve",
        "generate",
        "chunks",
        "embed",
        "evaluate",
        "compare",
        "calibrate",
    }


def test_no_option_has_another_name(inventory: dict[str, dict[str, Any]]):
    assert {name: list(inventory[name]) for name in inventory.keys() & OTHER_NAMES.keys()} == {}


def test_whoever_runs_a_model_chooses_its_device_and_precision(inventory: dict[str, dict[str, Any]]):
    saves_the_weights_as_they_are = {"calibrate Command"}
    assert inventory["device"].keys() - saves_the_weights_as_they_are <= inventory["precision"].keys()
    assert set(map(str, inventory["device"].values())) == {str(str)}


def test_outputs_have_one_short_name(inventory: dict[str, dict[str, Any]]):
    assert all("-o" in str(hint) for hint in inventory["output"].values()), inventory["output"]


@pytest.mark.parametrize("name", ["max_bytes", "seed", "json", "one_strand", "on_error", "field", "format", "bed"])
def test_one_name_is_one_type(inventory: dict[str, dict[str, Any]], name: str):
    kinds = {frozenset(set(typing.get_args(hint)) - {type(None)} or {hint}) for hint in inventory[name].values()}
    assert len(kinds) == 1, inventory[name]
