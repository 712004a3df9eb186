"""Configurations that come with the package: found by name wherever one is asked for, and never before a file."""

import json
import re
import shutil
from pathlib import Path

import pytest

from hnet_lm.cli.architecture import read_architecture
from hnet_lm.cli.main import main
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.named_configs import FOLDER, config_file, names
from hnet_lm.training.config import RunConfig


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the user's, in which nothing of the package lies."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", names("models"))
def test_every_architecture_loads_by_its_name(name: str) -> None:
    assert HNetConfig.load(name) == HNetConfig.load(f"{name}.json") == HNetConfig.load(FOLDER / f"models/{name}.json")


@pytest.mark.parametrize("name", names("runs"))
def test_every_run_loads_by_its_name_with_its_model(name: str) -> None:
    run = RunConfig.load(name)
    assert run == RunConfig.load(f"{name}.toml")
    if not run.model.init_from:  # of a model of the user's
        run.check_model(HNetConfig.load(run.model.config))


def test_a_file_wins_over_a_name_and_a_folder_does_not(elsewhere: Path) -> None:
    (elsewhere / "demo").mkdir()
    (elsewhere / "english").mkdir()
    assert HNetConfig.load("demo") == HNetConfig.load(FOLDER / "models/demo.json")
    assert RunConfig.load("english").run.directory == "runs/english"
    shutil.copy(FOLDER / "models/tiny_1stage.json", "demo.json")
    assert HNetConfig.load("demo.json") == HNetConfig.load("tiny_1stage") != HNetConfig.load("demo")


def test_a_run_file_sees_models_from_its_folder_and_then_by_name(elsewhere: Path) -> None:
    folder = elsewhere / "mine"
    folder.mkdir()
    text = (FOLDER / "runs/demo.toml").read_text()
    (folder / "run.toml").write_text(text)
    assert RunConfig.load("mine/run.toml").model.config == str(FOLDER / "models/demo.json")
    shutil.copy(FOLDER / "models/tiny_1stage.json", "demo")  # beside the command, not the run file
    assert RunConfig.load("mine/run.toml").model.config == str(FOLDER / "models/demo.json")
    shutil.copy(FOLDER / "models/tiny_1stage.json", folder / "demo")
    assert HNetConfig.load(RunConfig.load("mine/run.toml").model.config) == HNetConfig.load("tiny_1stage")
    (folder / "wrong.toml").write_text(text.replace('config = "demo"', 'config = "hnet_2stage"'))
    with pytest.raises(ConfigError, match=r"mine/hnet_2stage: cannot be read: .*: hnet_2stage_L, hnet_2stage_XL"):
        HNetConfig.load(RunConfig.load("mine/wrong.toml").model.config)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["train", "englsh"], "englsh: cannot be read: No such file or directory; the nearest names .*: english"),
        (["train", "englsh.toml"], "the nearest names that come with hnet-lm: english"),
        (["train", "qqq"], "qqq: .*; hnet-lm has chinese, code, demo, dna, english, "),
        (["train"], "name a run file, as in: hnet-lm train english"),
        (["demo", "dem"], "the nearest names that come with hnet-lm: demo"),
        (["info", "hnet_1stage"], "no such directory; .*: hnet_1stage_L, hnet_1stage_XL"),
        (["info", "hnet_1stag.json"], "cannot be read: .*: hnet_1stage_L, hnet_1stage_XL"),
        (["match", "--to", "tiny_1stge"], "the nearest names that come with hnet-lm: tiny_1stage"),
        (["convert", "hnet_1stage_l", "no.pt", "out"], "the nearest names that come with hnet-lm: hnet_1stage_L"),
    ],
)
def test_an_unknown_name_is_one_line_with_the_nearest(
    arguments: list[str], says: str, capsys: pytest.CaptureFixture[str], elsewhere: Path
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("hnet-lm: error: ")
    assert re.search(says, line)
    assert list(elsewhere.iterdir()) == []


def test_info_takes_both_kinds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "hnet_1stage_L", "--json"]) == 0
    assert "training" not in json.loads(capsys.readouterr().out)
    assert main(["info", "english", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["training"]["num_steps"] == RunConfig.load("english").run.num_steps
    assert read_architecture("demo").run is None
    assert read_architecture("demo.toml").run == RunConfig.load("demo")


def test_standard_input_and_urls_are_no_names() -> None:
    assert config_file("-", "models") == "-"
    assert config_file("s3://bucket/demo", "models") == "s3://bucket/demo"
