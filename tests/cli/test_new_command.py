"""`hnet-lm new`: a run file that trains as the named one does, in a folder of its own; nothing is ever replaced."""

import dataclasses
from pathlib import Path

import pytest

from hnet_lm.cli.main import main
from hnet_lm.named_configs import FOLDER, names
from hnet_lm.training.config import RunConfig


@pytest.mark.parametrize("name", names("runs"))
def test_it_is_the_same_run_in_a_folder_of_its_own(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", "my own.toml", "--from", name]) == 0
    assert capsys.readouterr().out.endswith("hnet-lm train my own.toml\n")
    run, original = RunConfig.load("my own.toml"), RunConfig.load(name)
    assert run.run.directory == "runs/my own"
    assert dataclasses.replace(run, run=dataclasses.replace(run.run, directory=original.run.directory)) == original
    written = Path("my own.toml").read_text().splitlines()
    assert "train my own.toml" in " ".join(written[:4])
    differing = [line for line in written if line not in (FOLDER / f"runs/{name}.toml").read_text().splitlines()]
    assert 2 <= len(differing) <= 3


def test_a_file_that_is_there_stays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "my.toml"
    file.write_text("mine")
    assert main(["new", str(file)]) == 2
    assert capsys.readouterr().err == f"hnet-lm: error: {file}: exists already and is not replaced; name another file\n"
    assert file.read_text() == "mine"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["my.toml", "--from", "englsh"],
            "--from englsh: no run of that name; the nearest names that come with hnet-lm",
        ),
        (["my.json"], "my.json: cannot be written as .json; the endings are .toml"),
        (["no/folder/my.toml"], "no/folder/my.toml: cannot be written: No such file or directory"),
    ],
)
def test_what_cannot_be_is_one_line(
    arguments: list[str],
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["new", *arguments]) == 2
    assert says in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
