"""What the README says can be done: its commands exist with those flags, its Python runs, links and tree are real."""

import re
import shlex
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm.cli.main import COMMANDS, main

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.fixture
def demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which `runs/demo` is a small untrained model."""
    torch.manual_seed(0)
    config = hnet_lm.HNetConfig.load("tiny_1stage")
    hnet_lm.save(hnet_lm.HNetLM(config), tmp_path / "runs/demo")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_python_runs_as_printed(demo: Path, capsys: pytest.CaptureFixture[str]):
    (code,) = blocks("python")
    exec(code, {})
    shapes = capsys.readouterr().out.splitlines()[-1]
    assert shapes == "torch.Size([27, 256]) torch.Size([27])"


@pytest.mark.parametrize("command", ["generate", "chunks", "evaluate", "info"])
def test_commands_run_as_printed(command: str, demo: Path, capsys: pytest.CaptureFixture[str]):
    (line,) = [line for line in blocks("sh")[0].splitlines() if line.startswith(f"hnet-lm {command} ")]
    arguments = shlex.split(line, comments=True)[1:]
    extra = {"generate": ["--max-new-bytes", "5"], "evaluate": ["--max-bytes", "500"]}.get(command, [])
    assert main([*arguments, *extra]) == 0
    assert capsys.readouterr().out


def test_every_command_named_exists():
    named = set(re.findall(r"^hnet-lm (\w+)", blocks("sh")[0], flags=re.MULTILINE))
    assert named
    assert named <= set(COMMANDS)


def test_make_targets_named_exist():
    makefile = (ROOT / "Makefile").read_text()
    for target in set(re.findall(r"\bmake (\w+)", README)):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_links_and_tree_are_real():
    for link in re.findall(r"\]\((?!http)([^)]+)\)", README):
        assert (ROOT / link).exists(), link
    package = [line.split()[0] for line in README.splitlines() if re.match(r"^  \w+(\.py|/) ", line)]
    assert len(package) > 8
    for entry in package:
        assert (ROOT / "src/hnet_lm" / entry).exists(), entry
