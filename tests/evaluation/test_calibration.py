"""Thresholds for chunks of a wanted length, of every chunker that has one."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError, DataError
from hnet_lm.evaluation.calibration import between, calibrated, with_threshold
from hnet_lm.inspect import chunks
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import FOLDER
from hnet_lm.testing.small import small_config, small_model

TEXT = b"Call me Ishmael. Some years ago - never mind how long precisely - having little or no money in my purse. " * 3


@pytest.mark.parametrize("name", ["dynamic", "cosine", "linear", "policy"])
def test_chunks_have_the_wanted_length(name: str) -> None:
    model: Any = small_model(small_config({"name": name})).float()
    if name == "policy":  # where p depends on the cuts before
        model.network.routing.last_action_weight.data.fill_(-1.0)
    other, (found,) = calibrated(model, [TEXT, TEXT[7:200]], [4.0])
    stages = [chunks(other, text).stages[0] for text in (TEXT, TEXT[7:200])]
    length = sum(len(s.is_boundary) for s in stages) / sum(int(s.is_boundary.sum()) for s in stages)
    assert found.length == pytest.approx(length)
    assert length == pytest.approx(4.0, rel=0.15 if name == "policy" else 0.05)
    assert other.config.chunker(0).threshold == found.threshold != 0.5  # type: ignore[attr-defined]
    for ours, theirs in zip(other.parameters(), model.parameters(), strict=True):
        assert ours.data_ptr() == theirs.data_ptr()


def test_stages_are_calibrated_from_the_outermost_inwards() -> None:
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.load(FOLDER / "models/tiny_2stage.json"))
    other, (outer, inner) = calibrated(model, [TEXT], [3.0, 2.5])
    first, second = chunks(other, TEXT).stages
    assert len(first.boundary_prob) / len(first.starts) == pytest.approx(3.0, rel=0.03) == outer.length
    assert len(second.boundary_prob) / len(second.starts) == pytest.approx(2.5, rel=0.05)
    assert inner.length == pytest.approx(2.5, rel=0.05)
    assert HNetConfig.from_dict(other.config.to_dict()) == other.config


def test_a_threshold_stands_between_two_probabilities() -> None:
    prob = np.array([1.0, 0.9, 0.7, 0.7, 0.2, 0.1], np.float32)
    assert between(prob, 2.0) == pytest.approx(0.8)
    assert between(prob, 3.2) == pytest.approx(0.45)
    neighbours = np.array([0.3, np.nextafter(np.float32(0.3), np.float32(1))], np.float32)
    assert (neighbours > np.float32(between(neighbours, 1))).tolist() == [False, True]
    with pytest.raises(DataError, match="all its boundary probabilities are the same"):
        between(np.ones(4, np.float32), 2.0)


def test_what_has_no_threshold_is_refused() -> None:
    model = small_model(small_config({"name": "space"}))
    with pytest.raises(ConfigError, match="stage 0 is cut by 'space', which has no threshold"):
        calibrated(model, [TEXT], [4.0])
    with pytest.raises(ConfigError, match="draws its boundaries"):
        with_threshold(small_model(small_config({"name": "policy", "decide": "sample"})), 0, 0.4)
    dynamic = small_model(small_config({"name": "dynamic"}))
    with pytest.raises(ConfigError, match="chunks 1 times, but 2 target ratios"):
        calibrated(dynamic, [TEXT], [4.0, 2.0])
    with pytest.raises(ConfigError, match="must be a number above 1, got 1"):
        calibrated(dynamic, [TEXT], [1.0])


def test_the_command_saves_the_model(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hnet_lm.checkpoint.save(small_model(small_config({"name": "dynamic"})).float(), tmp_path / "model")
    (tmp_path / "text.txt").write_bytes(TEXT)
    out = tmp_path / "out"
    arguments = [
        "calibrate",
        str(tmp_path / "model"),
        str(tmp_path / "text.txt"),
        "--target-ratios",
        "5",
        "-o",
        str(out),
    ]
    assert main(arguments) == 0
    assert "the calibrated model" in capsys.readouterr().out
    found = chunks(hnet_lm.load(out), TEXT).stages[0]
    assert len(TEXT) / len(found.starts) == pytest.approx(5.0, rel=0.05)
