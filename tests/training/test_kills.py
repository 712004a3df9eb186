"""Killed by SIGKILL at random moments, among them inside a save, and resumed: the run is the one never killed."""

import copy
import json
import os
import subprocess
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from training_runs import losses, run_table, weights

from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.named_configs import FOLDER as CONFIGS
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


def drive(folder: Path, killed: dict[str, Any], num_kills: int, last_event: int = 60, timeout: int = 250) -> Drive:
    """Train a run undisturbed, and in another directory through kills, in processes of their own.

    A kill comes within a few steps, or at one of the first `last_event` file operations of an attempt.
    """
    unbroken = copy.deepcopy(killed)
    unbroken["run"]["directory"] = str(folder / "unbroken")
    unbroken["data"]["num_workers"] = 0
    unbroken["checkpoints"]["every"] = killed["run"]["num_steps"]
    spec = {
        "unbroken": unbroken,
        "unbroken_batches": str(folder / "unbroken.batches"),
        "killed": killed,
        "killed_batches": str(folder / "killed.batches"),
        "num_kills": num_kills,
        "seed": 0,
        "last_event": last_event,
        "longest": 30.0,
    }
    file = folder / "spec.json"
    file.write_text(json.dumps(spec))
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, DRIVER, file], capture_output=True, text=True, env=environment, timeout=timeout
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["exit_code"] == 0, done.stderr
    assert len(found["landed"]) == num_kills
    assert found["landed"].count("inside a save") >= num_kills // 4
    return Drive(folder, found["landed"])


def assert_is_the_one_never_killed(found: Drive, num_steps: int) -> dict[int, list[Any]]:
    """Losses, weights and what was read, bit for bit; nothing is left of a killed save. The batches that were read."""
    unbroken, killed = found.folder / "unbroken", found.folder / "killed"
    wanted = losses(unbroken)
    assert list(wanted) == list(range(1, num_steps + 1))
    assert losses(killed) == wanted
    expected = weights(unbroken)
    for directory in (killed, killed / "checkpoints" / f"step_{num_steps:08d}"):
        assert all(expected[name].equal(tensor) for name, tensor in weights(directory).items())
    read = found.batches("killed")
    assert read == found.batches("unbroken")
    assert sorted(read) == list(range(num_steps))
    assert all(find_damage(path) is None for path in (killed / "checkpoints").iterdir()), "leftovers of a killed save"
    return read


@pytest.mark.slow
@pytest.mark.parametrize(
    ("num_workers", "num_steps", "num_kills"),
    [
        pytest.param(0, 50, 8, marks=pytest.mark.long),
        (2, 14, 2),
        *(pytest.param(*sizes, marks=pytest.mark.thorough) for sizes in ((0, 120, 20), (1, 24, 3), (4, 24, 3))),
    ],
)
def test_the_run_is_the_one_never_killed(tmp_path: Path, num_workers: int, num_steps: int, num_kills: int) -> None:
    corpus = tmp_path / "corpus.jsonl"
    killed = run_table(
        tmp_path,
        name="killed",
        run={"num_steps": num_steps},
        data={"streams": STREAMS, "num_workers": num_workers},
        validation={"sources": [{"path": str(corpus)}], "every": 4, "max_bytes": 300, "sample_bytes": 0},
    )
    read = assert_is_the_one_never_killed(drive(tmp_path, killed, num_kills), num_steps)
    _assert_each_document_once_an_epoch(corpus, read, whole_epochs=num_steps > 30)


@pytest.mark.thorough
@pytest.mark.timeout(3600)
def test_the_demonstration_through_a_hundred_kills(tmp_path: Path) -> None:
    """Its model, its data and its options; batches and validation are smaller, and it is saved at every other step."""
    num_steps = 500
    killed = tomllib.loads((CONFIGS / "runs" / "demo.toml").read_text())
    killed["run"] |= {"directory": str(tmp_path / "killed"), "num_steps": num_steps}
    killed["model"]["config"] = str(CONFIGS / "models" / "demo.json")
    killed["data"] |= {"tokens_per_batch": 512, "max_length": 256}
    killed["validation"] |= {"every": 50, "max_bytes": 2000, "sample_bytes": 0}
    killed["checkpoints"]["every"] = 2
    killed["logging"]["every"] = 1
    assert_is_the_one_never_killed(drive(tmp_path, killed, num_kills=100, timeout=3500), num_steps)


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
