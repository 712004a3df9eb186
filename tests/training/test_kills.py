"""Killed by SIGKILL at random moments, among them inside a save, and resumed: the run is the one never killed."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training_runs import losses, run_table, weights

from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.training.checkpoints import find_damage

DRIVER = Path(__file__).with_name("kill_driver.py")
STREAMS = 4


@dataclass(frozen=True)
class Drive:
    """A run trained twice, undisturbed and through kills, and what the kills hit."""

    folder: Path
    landed: list[str]

    def batches(self, name: str) -> dict[int, list[Any]]:
        """The origins and ids of each batch that was read; fails where one was read differently after a resume."""
        found: dict[int, list[Any]] = {}
        for line in (self.folder / f"{name}.batches").read_text().splitlines():
            number, *content = json.loads(line)
            assert found.setdefault(number, content) == content, f"batch {number} changed"
        return found


def drive(
    folder: Path, num_steps: int, num_workers: int, num_kills: int, longest: float, last_event: int = 60
) -> Drive:
    """Train a run undisturbed and through kills, in processes of their own.

    A kill comes within a few steps, or at one of the first `last_event` file operations of an attempt.
    """
    tables = {
        "run": {"num_steps": num_steps},
        "validation": {
            "sources": [{"path": str(folder / "corpus.jsonl")}],
            "every": 4,
            "max_bytes": 300,
            "sample_bytes": 0,
        },
    }
    data = {"streams": STREAMS, "num_workers": num_workers}
    unbroken = run_table(folder, name="unbroken", data=data | {"num_workers": 0}, **tables)
    unbroken["checkpoints"]["every"] = num_steps
    killed = run_table(folder, name="killed", data=data, **tables)
    spec = {
        "unbroken": unbroken,
        "unbroken_batches": str(folder / "unbroken.batches"),
        "killed": killed,
        "killed_batches": str(folder / "killed.batches"),
        "num_kills": num_kills,
        "seed": 0,
        "last_event": last_event,
        "longest": longest,
    }
    file = folder / "spec.json"
    file.write_text(json.dumps(spec))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, DRIVER, file], capture_output=True, text=True, env=environment, timeout=250)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exit_code"] == 0, done.stderr
    assert len(found["landed"]) == num_kills
    return Drive(folder, found["landed"])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_workers", "num_steps", "num_kills"),
    [
        (0, 50, 8),
        (2, 14, 2),
        *(pytest.param(*sizes, marks=pytest.mark.thorough) for sizes in ((0, 120, 20), (1, 24, 3), (4, 24, 3))),
    ],
)
def test_the_run_is_the_one_never_killed(tmp_path: Path, num_workers: int, num_steps: int, num_kills: int) -> None:
    found = drive(tmp_path, num_steps, num_workers, num_kills, longest=30.0)
    assert found.landed.count("inside a save") >= num_kills // 4

    wanted = losses(tmp_path / "unbroken")
    assert list(wanted) == list(range(1, num_steps + 1))
    assert losses(tmp_path / "killed") == wanted
    expected = weights(tmp_path / "unbroken")
    for directory in (tmp_path / "killed", tmp_path / "killed" / "checkpoints" / f"step_{num_steps:08d}"):
        assert all(expected[name].equal(tensor) for name, tensor in weights(directory).items())

    read = found.batches("killed")
    assert read == found.batches("unbroken")
    assert sorted(read) == list(range(num_steps))
    _assert_each_document_once_an_epoch(tmp_path / "corpus.jsonl", read, whole_epochs=num_steps > 30)

    checkpoints = tmp_path / "killed" / "checkpoints"
    assert all(find_damage(path) is None for path in checkpoints.iterdir()), "leftovers of a killed save"


def _assert_each_document_once_an_epoch(corpus: Path, read: dict[int, list[Any]], whole_epochs: bool) -> None:
    offsets: dict[tuple[int, int], list[int]] = {}
    for origins, _ in read.values():
        for _, epoch, _, record, offset in origins:
            offsets.setdefault((epoch, record), []).append(offset)
    for places in offsets.values():
        assert len(places) == len(set(places))
    if whole_epochs:
        records = {document.record for document in documents(DataConfig((SourceConfig(str(corpus)),)))}
        assert {record for epoch, record in offsets if epoch == 0} == records
