"""Parts of a user's own, in one file each outside the package: they do all that the built-in ones do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from page_files import FILES, PAGE

import hnet_lm
from hnet_lm import checkpoint
from hnet_lm.cli.main import main
from hnet_lm.registry import import_module_of_user
from hnet_lm.serving.app import create_app
from hnet_lm.training.metrics import read_metrics

TEXTS = [f"Once, {n} mice ran; they saw: cheese!\nWhat then? Nothing." for n in range(30)]

MODEL: dict[str, Any] = {
    "arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
    "d_model": [32, 32, 32],
    "d_intermediate": [0, 0, 32],
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [2] * 3, "rotary_emb_dim": [4] * 3, "window_size": [-1] * 3},
    "chunkers": [{"name": "punctuation:Punctuation", "marks": ".,;:!?"}, {"name": "dynamic"}],
}

RUN = """
[run]
directory = "DIRECTORY"
num_steps = 4
precision = "float32"
[model]
config = "model.json"
[data]
tokens_per_batch = 192
max_length = 96
shuffle_bytes = 1000
[[data.sources]]
path = "texts.fortunes"
format = "fortunes:Fortunes"
options = { mark = "%%" }
[loss]
target_ratios = [3.0]
[[loss.terms]]
name = "sharpness:Sharpness"
weight = 0.1
stage = 1
[checkpoints]
every = 2
[logging]
every = 1
"""

IMPORTS = [word for name in ("punctuation", "sharpness", "fortunes", "doubling") for word in ("--import", name)]


@pytest.fixture
def run_file(folder: Path) -> Path:
    (folder / "model.json").write_text(json.dumps(MODEL))
    (folder / "texts.fortunes").write_text("\n%%\n".join(TEXTS))
    (folder / "run.toml").write_text(RUN.replace("DIRECTORY", str(folder / "run")))
    return folder / "run.toml"


def test_the_page_has_the_files_it_speaks_of() -> None:
    assert set(FILES) == {"punctuation", "sharpness", "fortunes", "doubling", "mark_share"}


def test_they_pass_the_laws_by_the_calls_of_the_page(folder: Path) -> None:
    (folder / "texts").write_bytes(b"one\ntwo\n%\nthree\n%\n%\nfour: a\n % line\n%\nfive")
    for name in FILES:
        import_module_of_user_here(folder, name)
    code = """
from fortunes import Fortunes
from hnet_lm.testing import check_chunker, check_data_format, check_loss_term, check_op_backend
from punctuation import Punctuation
from sharpness import Sharpness

check_chunker(Punctuation(marks=".!?"))
check_loss_term(Sharpness(weight=0.5, stage=1))
check_data_format(Fortunes(), "texts", [b"one\\ntwo\\n", b"three\\n", b"four: a\\n % line\\n", b"five"])
check_op_backend("ema_scan", "doubling")
"""
    exec(code, {})
    for call in re.findall(r"`(check_\w+)\(", PAGE.read_text()):
        assert call in code


def import_module_of_user_here(folder: Path, name: str) -> None:
    """As `hnet-lm --import` does, by its own code."""
    import sys

    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    import_module_of_user(name)


def test_they_train_and_are_reported_by_name(run_file: Path, folder: Path) -> None:
    source = FILES["doubling"].replace("    active = ", "    open('doubling_ran', 'w').close()\n    active = ")
    (folder / "doubling.py").write_text(source)
    assert main([*IMPORTS, "--backend", "ema_scan=doubling", "train", "run.toml"]) == 0
    assert (folder / "doubling_ran").exists()
    records = [record for record in read_metrics(folder / "run" / "metrics.jsonl") if "loss" in record]
    assert [record["step"] for record in records] == [1, 2, 3, 4]
    assert all(0 < record["stage1/sharpness"] <= 1 for record in records)
    assert all(record["stage0/ratio_loss"] == 0 < record["stage1/ratio_loss"] for record in records)


def test_a_stop_in_the_middle_goes_on_with_the_same_updates(run_file: Path, folder: Path) -> None:
    """The schedule is that of the whole run; a worker process, which knows nothing yet, reads the format."""
    assert main([*IMPORTS, "train", "run.toml", "--run.directory", "whole"]) == 0
    assert main([*IMPORTS, "train", "run.toml"]) == 0
    newest = folder / "run" / "checkpoints" / "step_00000004"
    for file in sorted(newest.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    newest.rmdir()
    assert main([*IMPORTS, "train", "run.toml", "--data.num-workers", "1"]) == 0
    whole, resumed = (checkpoint.read_weights(folder / name) for name in ("whole", "run"))
    assert all(whole[name].equal(resumed[name]) for name in whole)


@pytest.fixture
def saved(folder: Path) -> Path:
    """A model that the punctuation chunker cuts; its module is imported."""
    import_module_of_user_here(folder, "punctuation")
    hnet_lm.save(hnet_lm.HNetLM(hnet_lm.HNetConfig.from_dict(MODEL)), folder / "model")
    return folder / "model"


def test_a_model_is_loaded_asked_and_served(saved: Path) -> None:
    model = hnet_lm.load(saved)
    assert model.config.to_dict()["chunkers"] == [MODEL["chunkers"][0], {"name": "dynamic", "threshold": 0.5}]
    starts = hnet_lm.chunks(model, "One, two. Three").stages[0].starts
    assert starts.tolist() == [0, 4, 9]
    (written,) = hnet_lm.generate(model, ["One, two"], max_new_bytes=5, seed=1, return_bytes=True)
    with TestClient(create_app({"mine": model}), base_url="http://127.0.0.1") as client:
        request = {"model": "mine", "prompt": "One, two", "max_tokens": 5, "seed": 1}
        answer = client.post("/v1/completions", json=request)
    assert answer.status_code == 200
    assert len(written) <= 5
    assert answer.json()["usage"]["prompt_tokens"] >= len("One, two")


def test_a_model_is_drawn_matched_and_evaluated(saved: Path, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "poem.txt").write_text("\n".join(TEXTS[:8]))
    own = ["--import", "punctuation", "--import", "mark_share"]
    assert main([*own, "chunks", "model", "poem.txt", "--html", "poem.html", "--statistics"]) == 0
    assert "<html" in (folder / "poem.html").read_text()
    arguments = ["--sequence-length", "96", "--bytes-per-chunk", "9", "27", "--tolerance", "0.5", "--text", "poem.txt"]
    families = ["--family", "punctuation:PUNCTUATED", "mambabyte", "--output", "matched"]
    assert main([*own, "match", "--to", "model", *arguments, *families]) == 0
    config = json.loads((folder / "matched" / "punctuation-PUNCTUATED.json").read_text())
    assert config["chunkers"] == [{"name": "punctuation:Punctuation", "marks": ".,;:!?"}]
    assert main([*own, "evaluate", "bpb", "model", "poem.txt"]) == 0
    capsys.readouterr()
    assert main([*own, "evaluate", "mark_share:MarkShare", "--model", "model", "--text", "poem.txt"]) == 0
    num_marks = sum(map("\n".join(TEXTS[:8])[:-1].count, ".,;:!?"))
    assert (
        capsys.readouterr().out == f"{num_marks / (num_marks + 1):.1%} of {num_marks + 1} chunks begin behind a mark\n"
    )
