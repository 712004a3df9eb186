"""`hnet-lm demo`: what cannot be shown is said before the training, and nothing of anybody else's is replaced."""

import io
import json
import re
from pathlib import Path

import pytest
import tomli_w

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


@pytest.mark.parametrize(("encoding", "band"), [("ascii", r"stage 0 [|+-]+"), ("utf-8", r"stage 0 [┗╋━]+")])
def test_what_was_learned_is_shown_in_any_encoding(
    tmp_path: Path, encoding: str, band: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = tmp_path / "held-out.txt"
    text.write_text("The cat sat on the mat. " * 20)
    sources = {"sources": [{"path": str(text)}]}
    config = small_config(tmp_path / "model.json")
    table = {
        "run": {"directory": str(tmp_path / "run"), "num_steps": 1, "precision": "float32"},
        "model": {"config": config},
        "data": {**sources, "tokens_per_batch": 64, "max_length": 32},
        "loss": {"target_ratios": [3.0]},
        "validation": {**sources, "every": 1, "max_bytes": 200, "sample_bytes": 0, "sample_prompt": "[b]The[/b]"},
    }
    (tmp_path / "run.toml").write_text(tomli_w.dumps(table))
    output = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    monkeypatch.setattr("sys.stdout", output)
    Command(tmp_path / "run.toml").run()
    output.flush()
    shown = output.buffer.getvalue().decode(encoding)  # pyright: ignore[reportAttributeAccessIssue]  a BytesIO
    rows = re.findall(r"^ *(H-Net, trained|H-Net, untrained|gzip|xz|zstd)\s+(\d+\.\d{3})", shown, re.MULTILINE)
    figures = [float(value) for _, value in rows]
    assert {"H-Net, trained", "H-Net, untrained"} < {name for name, _ in rows}
    assert figures == sorted(figures)
    assert "[b]The[/b]" in shown
    assert re.search(f"^{band}", shown, re.MULTILINE)
    words = " ".join(shown.split())  # lines are broken at the width of the terminal
    assert re.search(r"stage 0: \d+\.\d\d bytes per chunk\. \d+% of the chunks start at a word \(\d+% at the", words)
    assert re.search(r"\d+% of all bytes are such places", words)
    assert re.search(r"\d+\.\d\d times the bits of the mean byte \(boundary enrichment B; \d+\.\d\d to", words)
    assert (tmp_path / "run" / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert "The cat sat" in (tmp_path / "run" / "chunks.html").read_text()


def small_config(path: Path) -> str:
    config = {
        "arch_layout": ["m1", ["T1"], "m1"],
        "d_model": [32, 32],
        "d_intermediate": [0, 48],
        "ssm_cfg": {"d_state": 8, "expand": 2},
        "attn_cfg": {"num_heads": [2, 2], "rotary_emb_dim": [8, 8], "window_size": [15, -1]},
    }
    path.write_text(json.dumps(config))
    return str(path)
