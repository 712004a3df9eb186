"""What a run leaves for people: report.md and loss.png, also without matplotlib, and also where it was stopped."""

import os
import signal
import sys
from pathlib import Path

import pytest
from training_runs import Listener, run_config

from hnet_lm.model_card import ModelCard
from hnet_lm.training.loop import TrainingError, train

REPORT = {"report": True}


class NotInstalled:
    """Finds no matplotlib, as where it is not installed."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name.partition(".")[0] == "matplotlib":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)


def test_a_finished_run(tmp_path: Path) -> None:
    validation = {
        "sources": [{"path": str(tmp_path / "corpus.jsonl")}],
        "every": 3,
        "max_bytes": 300,
        "sample_bytes": 4,
    }
    state = train(run_config(tmp_path, validation=validation, logging=REPORT))
    report = (tmp_path / "run" / "report.md").read_text()
    assert report.startswith("# run\n")
    assert "6 updates on" in report
    assert "finished" in report
    assert f"{state.best_bits_per_byte:.4f} (step {state.best_step})" in report
    assert "| 3 | " in report
    assert "target 3" in report
    assert "![bits per byte and bytes per chunk](loss.png)" in report
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    card = ModelCard.read(tmp_path / "run")
    assert card.facts["training data"] == "corpus.jsonl"
    assert card.facts["trained on"] == f"{state.bytes_seen:,} bytes, in 6 updates"
    assert card.facts["bits per byte, held-out text"] == f"{state.best_bits_per_byte:.4f} (step {state.best_step})"
    assert "bytes, " in card.facts["chunks of stage 0"]


def test_a_readme_of_somebodys_own_stays(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "README.md").write_text("mine")
    train(run_config(tmp_path, logging=REPORT))
    assert (tmp_path / "run" / "README.md").read_text() == "mine"


def test_a_stopped_run_says_how_far_it_is(tmp_path: Path) -> None:
    stop = Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 2 else None)
    train(run_config(tmp_path, logging=REPORT), stop)
    assert "3 updates on" in (tmp_path / "run" / "report.md").read_text()
    assert "stopped; the same command goes on to step 6" in (tmp_path / "run" / "report.md").read_text()
    train(run_config(tmp_path, logging=REPORT))
    assert "finished" in (tmp_path / "run" / "report.md").read_text()


def test_without_matplotlib_the_report_says_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("matplotlib", "hnet_lm.figures"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "hnet_lm.training.figure", raising=False)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    listener = Listener()
    train(run_config(tmp_path, logging=REPORT), listener)
    note = "drawing loss.png needs the package matplotlib: pip install 'hnet-lm[plot]'"
    assert note in (tmp_path / "run" / "report.md").read_text()
    assert note in listener.messages
    assert not (tmp_path / "run" / "loss.png").exists()


@pytest.mark.parametrize("name", ["report.md", "loss.png"])
def test_a_file_of_somebody_else_is_not_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).write_text("mine")
    with pytest.raises(TrainingError, match=rf"holds {name}, and no checkpoints"):
        train(run_config(tmp_path, logging=REPORT))
    assert (tmp_path / "run" / name).read_text() == "mine"
