"""`hnet-lm convert`: official files become a directory that loads as the same model."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.conversion import published_files
from hnet_lm.errors import CheckpointError

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


def hub_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """What the hub would give for any name."""
    directory = tmp_path / "hub"
    directory.mkdir()
    monkeypatch.setattr("hnet_lm.hub.snapshot_download", lambda *_, **__: str(directory))
    return directory


def test_published_weights_by_their_name_on_the_hub(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    hub = hub_directory(monkeypatch, tmp_path)
    shutil.copy(GOLDEN / "weights.safetensors", hub / "two.safetensors")
    assert main(["convert", "hf:someone/two", str(tmp_path / "out")]) == 2
    assert "has no two.json" in capsys.readouterr().err
    shutil.copy(config, hub / "two.json")
    assert main(["convert", "hf:someone/two", str(tmp_path / "out")]) == 0
    official = hnet_lm.load_official(config, GOLDEN / "weights.safetensors")
    assert all(
        torch.equal(a, b)
        for a, b in zip(hnet_lm.load(tmp_path / "out").parameters(), official.parameters(), strict=True)
    )


def test_a_repository_of_a_published_name_takes_the_packages_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    hub = hub_directory(monkeypatch, tmp_path)
    (hub / "hnet_1stage_L.pt").write_bytes(b"")
    config, weights = published_files("hf:cartesia-ai/hnet_1stage_L")
    assert (config.name, weights) == ("hnet_1stage_L.json", hub / "hnet_1stage_L.pt")
    (hub / "other.pt").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"holds hnet_1stage_L.pt, other.pt"):
        published_files("hf:cartesia-ai/hnet_1stage_L")


@pytest.mark.parametrize("arguments", [["a"], ["a", "b"], ["hf:a/b", "c", "d"], []])
def test_convert_says_what_it_takes(arguments: list[str], capsys: pytest.CaptureFixture[str]):
    assert main(["convert", *arguments]) == 2
    assert "hf:owner/name DIRECTORY" in capsys.readouterr().err
