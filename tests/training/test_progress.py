"""Whoever waits for long is told what for, and nobody else is."""

import threading
import time
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.training import progress
from hnet_lm.training.progress import Meter, waiting


def test_a_meter_speaks_after_a_while_and_then_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(progress, "monotonic", lambda: now)
    said: list[str] = []
    meter = Meter("bytes scored", said.append, total=4_000_000)
    for _ in range(40):  # one second each
        now += 1
        meter.advance(100_000)
    assert said == [
        "bytes scored: 0.50 M (12%), 100.0 k/s",
        "bytes scored: 1.50 M (38%), 100.0 k/s",
        "bytes scored: 2.50 M (62%), 100.0 k/s",
        "bytes scored: 3.50 M (88%), 100.0 k/s",
    ]


def test_waiting_speaks_only_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    with waiting("reading", said.append):
        pass
    assert said == []
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    num_threads = threading.active_count()

    def fail() -> None:
        deadline = time.monotonic() + 20
        while not said and time.monotonic() < deadline:
            time.sleep(0.01)
        raise ValueError("gone wrong")

    with pytest.raises(ValueError, match="gone wrong"), waiting("reading", said.append):
        fail()
    assert said[0].startswith("reading: ")
    assert threading.active_count() == num_threads


def test_an_evaluation_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "PATIENCE", 0.0)
    torch.manual_seed(0)
    hnet_lm.save(hnet_lm.HNetLM(hnet_lm.HNetConfig.load("tiny_1stage")), tmp_path / "model")
    (tmp_path / "text.txt").write_text("once upon a time " * 20)
    assert main(["evaluate", "bpb", str(tmp_path / "model"), str(tmp_path / "text.txt")]) == 0
    captured = capsys.readouterr()
    assert "hnet-lm: bytes scored: 0.00 M" in captured.err
    assert "scored" not in captured.out
