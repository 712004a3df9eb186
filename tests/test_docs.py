"""README and docs: every fenced command and snippet runs as printed, or stands in a list with the reason why not.

They run in one folder of a user's, with a model that was trained there for a few steps. A command that would take long
gets options that shorten it. Commands in indented lists, and listed ones, are read: they name real options.
"""

import json
import lzma
import re
import shlex
import shutil
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm.cli import main as command_line
from hnet_lm.data import files
from hnet_lm.data.samples import sample_path
from hnet_lm.named_configs import FOLDER

ROOT = Path(__file__).parents[1]
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"))}
FOLLOWED = {"tutorial.md"}
"""Run to the letter by docs/test_tutorial.py, in an environment of their own; their options are read here."""

SHORT = {
    "train": "--model.config tiny_2stage --data.tokens-per-batch 256 --data.max-length 128 --data.shuffle-bytes 1000 "
    "--validation.max-bytes 300 --validation.sample-bytes 0",
    "generate": "--max-new-bytes 5",
    "evaluate": "--max-bytes 500",
    "calibrate": "--max-bytes 2000",
}
"""Options that keep a command from taking minutes."""

NOT_RUN = {
    r"make \w+": "makes an environment; the targets are there (test_readme.py)",
    r"(pip|uv|uvx|pre-commit) ": "asks a package index",
    r"(python -m venv|source) ": "makes an environment, and enters it",
    r"hnet-lm demo": "takes minutes; test_wheel.py runs it for a few steps",
    r"hnet-lm serve runs/demo$": "does not end; test_wheel.py runs it and asks it",
    r"hnet-lm serve .*hf:.*cuda": "needs a hub and a GPU",
    r"(srun )?torchrun ": "needs several GPUs; training/test_distributed.py runs ranks on CPUs",
    r"head=\$\(scontrol": "needs Slurm",
    r"hnet-lm sweep ": "trains six models; training/test_sweep.py trains small ones",
    r"(mkdir|cp) ": "takes a checkpoint of a long run; training/test_schedule_steps.py goes on from one",
    r"export ": "a setting of the shell",
}
SNIPPETS_NOT_RUN = {
    **{("extending.md", number): "a file to write; the tests in extending/ use it" for number in range(6)},
    ("genomics.md", 0): "needs vectors of regions; cli/test_genomics_commands.py makes some and runs it",
    ("tutorial.md", 0): "docs/test_tutorial.py runs it",
    ("compilers.md", 0): "compiling takes long; model/test_compilers.py does what it shows",
    ("huggingface.md", 0): "needs an export; hf/test_export.py makes one and loads it",
    ("serving.md", 0): "needs a server; serving/test_documented_client.py runs it against one",
}
BEFORE_SNIPPET = {
    ("concepts.md", 0): """
import torch, hnet_lm
from hnet_lm import Sequences
model = hnet_lm.load("runs/demo")
ids, next_ids = torch.arange(91), torch.tensor([1, 2])
""",
    ("concepts.md", 3): "ids = torch.arange(12)[None]",
}
"""What the page around a snippet takes for granted."""


DIRECTIVES = {"{toctree}", "{include}", "{eval-rst}", "{raw}"}
"""Of the site."""
NUM_BOOKS = 60
"""Enough for a twentieth of them to be held out."""


@dataclass(frozen=True)
class Block:
    page: str
    language: str
    text: str

    def commands(self) -> Iterator[str]:
        """Its command lines, each whole, without comments."""
        for line in self.text.replace("\\\n", " ").splitlines():
            command = shlex.join(shlex.split(line, comments=True)) if "$" not in line else line.strip()
            if command:
                yield command


BLOCKS = [
    Block(page, language, text)
    for page, content in PAGES.items()
    for language, text in re.findall(r"^```([^`\n]*)\n(.*?)^```", content, flags=re.DOTALL | re.MULTILINE)
]
COMMANDS = [(block.page, command) for block in BLOCKS if block.language == "sh" for command in block.commands()]
RUN = [
    (page, command)
    for page, command in COMMANDS
    if page not in FOLLOWED and not any(re.match(regex, command) for regex in NOT_RUN)
]
READ = [
    (page, line.strip())
    for page, content in PAGES.items()
    for line in re.sub(r" \\\n *", " ", content).splitlines()
    if re.match(r" {4}hnet-lm (?!train|--import)", line)  # run files and modules that are not there cannot be read
] + [(page, command) for page, command in COMMANDS if command.startswith("hnet-lm ") and (page, command) not in RUN]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a trained model, texts, and the reference code's files of a tiny model under a published name."""
    folder = tmp_path_factory.mktemp("user")
    (folder / "books").mkdir()
    sentence = "It was the best of times, it was the worst of times. "
    (folder / "book.txt").write_text(sentence * 40)
    for number in range(NUM_BOOKS):
        (folder / f"books/{number}.txt").write_text(f"Book {number}. {sentence * 4}")
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        arguments = "--run.num-steps 1 --model.config tiny_1stage --logging.every 1 --data.sources.0.path book.txt"
        assert command_line.main(["train", "demo", *SHORT["train"].split(), *arguments.split()]) == 0
    model = hnet_lm.load(folder / "runs/demo")
    shutil.copy(FOLDER / "models/tiny_1stage.json", folder / "hnet_1stage_L")
    names, state = hnet_lm.official.parameter_names(model), model.state_dict()
    torch.save({names[name]: state[name] for name in names}, folder / "hnet_1stage_L.pt")
    return folder


@pytest.fixture
def here(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, and in the place of the sample's book its beginning."""
    folder = tmp_path / "user"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    beginning = tmp_path / "beginning.jsonl"
    with lzma.open(sample_path("english", "validation"), "rt", encoding="utf-8") as book:
        beginning.write_text(json.dumps({"text": json.loads(next(book))["text"][:1500]}) + "\n")
    monkeypatch.setattr(files, "sample_path", lambda name, split: str(beginning))
    return folder


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language == "python"}))
def test_snippets_run_as_printed(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as somebody who reads the page would run them."""
    names: dict[str, object] = {}
    snippets = [block.text for block in BLOCKS if (block.page, block.language) == (page, "python")]
    for number, code in enumerate(snippets):
        if (page, number) not in SNIPPETS_NOT_RUN:
            exec(BEFORE_SNIPPET.get((page, number), ""), names)
            exec(compile(code, f"{page}, snippet {number}", "exec"), names)
    printed = capsys.readouterr().out.splitlines()
    if page == "README.md":
        assert printed[-1] == "torch.Size([27, 256]) torch.Size([27])"
    if page == "library.md":
        assert "runs/dmeo: no such directory; a model on the hub is named hf:owner/name" in printed
        losses = names["losses"]
        assert isinstance(losses, list)
        assert losses[-1] < losses[0] - 0.2
        assert hnet_lm.load("models/copy").config == hnet_lm.load("english-small").config
        configs = [hnet_lm.load(saved).config for saved in ("runs/own", "models/L")]
        assert configs == [hnet_lm.HNetConfig.load("tiny_1stage")] * 2


@pytest.mark.parametrize("page", sorted({page for page, _ in RUN}))
def test_commands_run_as_printed(page: str, here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other; what is not of this package is listed."""
    for command in [command for on_page, command in RUN if on_page == page]:
        program, name, *rest = shlex.split(command)
        assert program == "hnet-lm", f"{command} is neither run nor listed in NOT_RUN"
        code = command_line.main([name, *rest, *shortening(name, rest)])
        said = capsys.readouterr()
        assert code == 0, f"{command}: {said.err}"
        assert said.out, command


def shortening(name: str, arguments: list[str]) -> list[str]:
    budget = "--run.minutes 0.02" if "--run.minutes" in arguments else "--run.num-steps 1"
    return f"{budget if name == 'train' else ''} {SHORT.get(name, '')}".split()


@pytest.mark.parametrize("page", sorted({page for page, _ in READ}))
def test_commands_that_are_not_run_name_real_options(page: str) -> None:
    for command in [command for on_page, command in READ if on_page == page]:
        _, name, *rest = shlex.split(command.partition(" > ")[0], comments=True)
        assert name in command_line.COMMANDS, command
        assert command_line.parse_command(name, rest), command


def test_what_is_not_run_is_still_there() -> None:
    """No stale entry in the lists, and nothing in a language that nobody checks."""
    for regex in NOT_RUN:
        assert any(re.match(regex, command) for _, command in COMMANDS), regex
    pages = {(block.page, block.language) for block in BLOCKS}
    assert all((page, "python") in pages for page, _ in (*SNIPPETS_NOT_RUN, *BEFORE_SNIPPET))
    languages = {"", "sh", "python", "toml", "json", "text", *DIRECTIVES}
    assert {language.partition(" ")[0] for _, language in pages} <= languages
    plain = "".join(block.text for block in BLOCKS if block.language == "")
    assert not re.search(r"^(hnet-lm|python|pip|make) ", plain, flags=re.MULTILINE)


@pytest.mark.parametrize("page", sorted({block.page for block in BLOCKS if block.language == "toml"}))
def test_tables_are_toml(page: str) -> None:
    for block in BLOCKS:
        if (block.page, block.language) == (page, "toml"):
            assert tomllib.loads(block.text)
