"""`hnet-lm demo`: what cannot be shown is said before the training, and nothing of anybody else's is replaced."""

from pathlib import Path

import pytest

from hnet_lm.cli.demo import Command
from hnet_lm.errors import UserError

RUN = """
[run]
directory = "{directory}"
num_steps = 1
[model]
config = "no_such_model.json"
[[data.sources]]
path = "sample:english"
"""
HELD_OUT = '[[validation.sources]]\npath = "sample:english"\nsplit = "validation"\n'


@pytest.mark.parametrize(
    ("more", "message"), [("", r"validation\.sources: is empty"), (HELD_OUT, r"no_such_model\.json")]
)
def test_what_cannot_be_shown_is_said_at_once(tmp_path: Path, more: str, message: str) -> None:
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(directory=tmp_path / "demo") + more)
    with pytest.raises(UserError, match=message):
        Command(file).run()
    assert not (tmp_path / "demo").exists()


def test_a_model_of_tokens_is_not_shown(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    tokens = '[[data.sources]]\npath = "sample:english"\n'
    text = RUN.format(directory=tmp_path / "demo").replace(tokens, '[data]\ntokenizer = "t.json"\n' + tokens)
    file.write_text(text + HELD_OUT)
    with pytest.raises(UserError, match=r"data\.tokenizer: the demonstration shows models of bytes"):
        Command(file).run()


@pytest.mark.parametrize("name", ["loss.png", "chunks.html", "model.safetensors", "metrics.jsonl"])
def test_files_of_somebody_else_stay(tmp_path: Path, name: str) -> None:
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / name).write_text("mine")
    file = tmp_path / "run.toml"
    file.write_text(RUN.format(directory="elsewhere") + HELD_OUT)
    with pytest.raises(UserError, match=f"{name}, and no checkpoints of a run"):
        Command(file, output=str(tmp_path / "demo")).run()
    assert [path.name for path in (tmp_path / "demo").iterdir()] == [name]
    assert (tmp_path / "demo" / name).read_text() == "mine"
