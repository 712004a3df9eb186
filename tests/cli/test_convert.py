"""`hnet-lm convert`: official files become a directory that loads as the same model."""

import json
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import main

GOLDEN = Path(__file__).parent.parent / "goldens" / "two_stage"


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads((GOLDEN / "case.json").read_text())["config"]))
    return path


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_converted_weights_are_the_official_ones(
    dtype: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    weights = GOLDEN / "weights.safetensors"
    assert main(["convert", str(config), str(weights), str(tmp_path / "out"), "--precision", dtype]) == 0
    official = hnet_lm.load_official(config, weights, dtype=getattr(torch, dtype))
    converted = hnet_lm.load(tmp_path / "out")
    assert converted.config == official.config
    for (name, ours), theirs in zip(converted.named_parameters(), official.parameters(), strict=True):
        assert ours.dtype == theirs.dtype, name
        assert torch.equal(ours, theirs), name
    num_parameters = sum(parameter.numel() for parameter in official.parameters())
    assert f"{num_parameters:,} parameters in {dtype}" in capsys.readouterr().out


def test_weights_of_another_config_are_refused_and_nothing_written(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    weights = GOLDEN.parent / "one_stage" / "weights.safetensors"
    assert main(["convert", str(config), str(weights), str(tmp_path / "out")]) == 2
    assert str(weights) in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
