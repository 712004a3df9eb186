"""A run of an earlier version is the same run: what it did not know yet has the value that it had without saying so."""

from pathlib import Path
from typing import Any

import pytest
from training_runs import run_config

from hnet_lm.tables import to_table
from hnet_lm.training.changes import completed, differences


@pytest.fixture
def now(tmp_path: Path) -> dict[str, Any]:
    return to_table(run_config(tmp_path))


@pytest.mark.parametrize("section", ["loss", "optimizer", "schedule", "superposition", "lora"])
def test_a_table_that_has_come_since(now: dict[str, Any], section: str, tmp_path: Path) -> None:
    defaults = to_table(run_config(tmp_path, **{section: {}})) | {section: completed({})[section]}
    saved = {key: rows for key, rows in defaults.items() if key != section}
    assert differences(completed(saved), defaults) == []


@pytest.mark.parametrize(("section", "key"), [("run", "tf32"), ("data", "on_error"), ("optimizer", "average")])
def test_a_key_that_has_come_since(now: dict[str, Any], section: str, key: str) -> None:
    rows = {name: value for name, value in now[section].items() if name != key}
    assert differences(completed({**now, section: rows}), now) == []
    assert len(differences(completed({**now, section: {**rows, key: "?"}}), now)) == 1


def test_a_key_of_a_source_that_has_come_since(now: dict[str, Any]) -> None:
    data = now["data"]
    sources = [{"path": source["path"]} for source in data["sources"]]
    assert differences(completed({**now, "data": {**data, "sources": sources}}), now) == []
