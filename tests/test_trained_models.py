"""The models that come with the package: what their cards say is so, and their names do wherever a model is named."""

import json
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm import checkpoint
from hnet_lm.cli.main import main
from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.errors import CheckpointError
from hnet_lm.evaluation import ByteScorer, CarriedState, bits_per_byte
from hnet_lm.trained_models import FOLDER, TrainedModel, models
from hnet_lm.training.config import RunConfig

MAX_BYTES = 20_000_000
"""Of all of them together."""
TOLERANCE = 0.002
"""Bits per byte: a few more or fewer chunks, as other machines round."""

every_model = pytest.mark.parametrize("model", models(), ids=lambda model: model.name)


def test_they_are_small():
    assert [model.name for model in hnet_lm.models()] == sorted(path.name for path in FOLDER.iterdir())
    assert sum(path.stat().st_size for path in FOLDER.rglob("*")) <= MAX_BYTES


@every_model
def test_the_bits_per_byte_are_those_of_the_card(model: TrainedModel):
    sample = model.card["sample"]
    source = DataConfig((SourceConfig(sample["path"], split="validation"),))
    text = next(document.data for document in documents(source))[: sample["num_bytes"]]
    found = bits_per_byte(ByteScorer(hnet_lm.load(model.name), CarriedState()), {"sample": [text]}).value
    assert found == pytest.approx(sample["bits_per_byte"], abs=TOLERANCE)


@every_model
def test_the_card_that_people_read_has_the_figures(model: TrainedModel):
    text = (model.directory / "README.md").read_text(encoding="utf-8")
    assert f"{model.card['trained_bytes'] / 1e6:.1f} MB" in text
    for what, found in model.card["measured"].items():
        assert f"| {what} | {found['num_bytes']:,} | {found['bits_per_byte']:.3f} |" in text
        assert found["interval_95"][0] < found["bits_per_byte"] < found["interval_95"][1]
    assert model.card["num_parameters"] == sum(weight.numel() for weight in hnet_lm.load(model.name).parameters())


def test_their_weights_are_saved_in_bfloat16_and_computed_with_in_float32():
    model = models()[0]
    size = (model.directory / checkpoint.WEIGHTS).stat().st_size
    assert size < 2.1 * model.card["num_parameters"]  # bytes; a few maps stay in float32
    assert {weight.dtype for weight in hnet_lm.load(model.name).parameters()} == {torch.float32}


def test_names_do_in_commands(capsys: pytest.CaptureFixture[str]):
    name = models()[0].name
    assert main(["generate", name, "It was", "--max-new-bytes", "8"]) == 0
    assert capsys.readouterr().out
    assert main(["chunks", name, "It was the best of times", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["num_bytes"] == 24
    assert main(["info", name]) == 0
    assert name in capsys.readouterr().out
    assert main(["models"]) == 0
    assert name in capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[name]["licence"]


def test_a_run_starts_from_one(tmp_path: Path):
    lines = ["[run]", 'directory = "run"', "num_steps = 1", "[model]", f'init_from = "{models()[0].name}"']
    lines += ["[[data.sources]]", 'path = "sample:english"']
    (tmp_path / "run.toml").write_text("\n".join(lines))
    assert RunConfig.load(tmp_path / "run.toml").model.init_from == models()[0].name


def test_a_directory_of_that_name_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    name = models()[0].name
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    with pytest.raises(CheckpointError, match="is no saved model"):
        hnet_lm.load(name)


def test_another_name_is_told_the_names_that_there_are(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "engish-small", "It was"]) == 2
    assert f"these come with hnet-lm: {models()[0].name}" in capsys.readouterr().err
