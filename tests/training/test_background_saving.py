"""Checkpoints that are written while the run goes on are those of a run that waits for them."""

import json
import threading
from pathlib import Path

import pytest
from training_runs import Listener, losses, run_config, weights

from hnet_lm.training.errors import CannotWrite, TrainingError
from hnet_lm.training.loop import train
from hnet_lm.training.saving import Staged

IN_BACKGROUND = {"every": 2, "keep": 9, "background": True}
TIMEOUT = 300.0
OF_ITS_TIME = ("trainer.json", "optimizer/.metadata")
"""Files that say when a checkpoint was written."""


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of six steps that waits for each checkpoint."""
    folder = tmp_path_factory.mktemp("waiting")
    train(run_config(folder, checkpoints={**IN_BACKGROUND, "background": False}))
    return folder / "run"


def manifests(run: Path) -> dict[str, dict[str, tuple[int, int]]]:
    """Sizes and sums of the files of each checkpoint, but of what says when and where it was written."""
    found = {path.name: json.loads((path / "manifest.json").read_text()) for path in (run / "checkpoints").iterdir()}
    return {
        name: {
            file: tuple(value) for file, value in files.items() if file not in ("trainer.json", "optimizer/.metadata")
        }
        for name, files in found.items()
    }


def test_the_run_goes_on_and_the_files_are_those_of_the_step(
    waiting: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each checkpoint is finished only after the update that follows it."""
    made = threading.Condition()
    steps = [0]
    finish = Staged.finish

    def after_update(step: int) -> None:
        with made:
            steps.append(step)
            made.notify_all()

    def late(staged: Staged) -> None:
        step = int(staged.final.name.removeprefix("step_"))
        with made:
            assert made.wait_for(lambda: step == 6 or steps[-1] > step, TIMEOUT)
        finish(staged)

    monkeypatch.setattr(Staged, "finish", late)
    train(run_config(tmp_path, checkpoints=IN_BACKGROUND), Listener(after_update))
    assert manifests(tmp_path / "run") == manifests(waiting)
    assert losses(tmp_path / "run") == losses(waiting)
    assert all(weight.equal(weights(waiting)[name]) for name, weight in weights(tmp_path / "run").items())


def test_a_run_goes_on_from_one(waiting: Path, tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 4}, checkpoints=IN_BACKGROUND, schedule={"warmup_steps": 1}))
    train(run_config(tmp_path, checkpoints=IN_BACKGROUND, schedule={"warmup_steps": 1}), allow_changes=True)
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_fails_stops_the_run_with_the_last_good_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = Staged.finish

    def fails(staged: Staged) -> None:
        if staged.final.name == "step_00000004":
            raise CannotWrite(f"{staged.final}: cannot be written: no space")
        finish(staged)

    monkeypatch.setattr(Staged, "finish", fails)
    with pytest.raises(TrainingError, match=r"step_00000004: cannot be written: no space.*good checkpoint is .*02"):
        train(run_config(tmp_path, checkpoints=IN_BACKGROUND))
    names = [path.name for path in (tmp_path / "run" / "checkpoints").iterdir()]
    assert names == ["step_00000002"]
    monkeypatch.setattr(Staged, "finish", finish)
    train(run_config(tmp_path, checkpoints=IN_BACKGROUND))
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]
