"""`hnet-lm chunks` with a saved model: every way to read a text and to show its chunks."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest
import torch

import hnet_lm
from hnet_lm import HNetConfig, HNetLM
from hnet_lm.cli.main import main


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    directory = tmp_path_factory.mktemp("models") / "tiny"
    config = {
        "arch_layout": ["m1", ["m1", ["T1"], "m1"], "m1"],
        "d_model": [64, 64, 64],
        "d_intermediate": [0, 0, 64],
        "ssm_cfg": {"d_state": 8},
        "attn_cfg": {"num_heads": [2] * 3, "rotary_emb_dim": [16] * 3, "window_size": [-1] * 3},
    }
    model = HNetLM(HNetConfig.from_dict(config))
    for name, parameter in model.named_parameters():
        if "routing" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    hnet_lm.save(model, directory)
    return str(directory)


def shown(saved: str, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    code = main(["chunks", saved, *arguments])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_the_picture(saved: str, capsys: pytest.CaptureFixture[str]):
    lines = shown(saved, capsys, "The 中 cat").splitlines()
    assert lines[0] == "      0 The 中 cat"
    assert [line[:8] for line in lines[1:3]] == ["stage 0 ", "stage 1 "]
    assert len(shown(saved, capsys, "The cat", "--probabilities").splitlines()) == 5


def test_json_is_what_the_library_finds(saved: str, capsys: pytest.CaptureFixture[str]):
    found = json.loads(shown(saved, capsys, "The 中 cat", "--json"))
    chunks = hnet_lm.chunks(hnet_lm.load(saved), "The 中 cat")
    assert [stage["starts"] for stage in found["stages"]] == [stage.starts.tolist() for stage in chunks.stages]
    assert found["stages"][0]["summary"]["num_chunks"] == chunks.stages[0].num_chunks
    assert found["stages"][0]["agreement"][0]["reference"] == "spaces"


def test_json_of_an_empty_text_is_json(saved: str, capsys: pytest.CaptureFixture[str]):
    found = json.loads(shown(saved, capsys, "", "--json"), parse_constant=lambda name: pytest.fail(name))
    assert found["stages"][0]["summary"]["bytes_per_chunk"] is None


def test_texts_from_files(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "plain.txt").write_text("plain text")
    (tmp_path / "no_suffix").write_bytes(b"any \xf0 bytes")
    (tmp_path / "packed.txt.gz").write_bytes(gzip.compress(b"packed text"))
    (tmp_path / "genome.fa").write_text(">one\nACGT\nNNac\n>two\nTTTT\n")
    (tmp_path / "lines.jsonl").write_text('{"text": "first"}\n{"text": "second"}\n')

    def first_row(*arguments: str) -> str:
        return shown(saved, capsys, *arguments).splitlines()[0].split(maxsplit=1)[1]

    assert first_row("--file", str(tmp_path / "plain.txt")) == "plain text"
    assert first_row("--file", str(tmp_path / "plain.txt"), "--max-bytes", "3") == "pla"
    assert first_row("--file", str(tmp_path / "no_suffix")) == "any \\xf0 bytes"
    assert first_row("--file", str(tmp_path / "packed.txt.gz")) == "packed text"
    assert first_row("--file", str(tmp_path / "genome.fa")) == "ACGTNNAC"
    assert first_row("--file", str(tmp_path / "genome.fa"), "--document", "1") == "TTTT"
    assert first_row("--file", str(tmp_path / "lines.jsonl"), "--document", "1") == "second"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"typed")))
    assert first_row() == "typed"


def test_statistics_with_every_reference(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "words.txt").write_text("the cat\nsat")
    (tmp_path / "genes.bed").write_text("chr1\t102\t105\n")
    out = shown(
        saved,
        capsys,
        *["the cat sat", "--words", str(tmp_path / "words.txt"), "--codons", "0"],
        *["--bed", str(tmp_path / "genes.bed"), "--bed-sequence", "chr1", "--bed-origin", "100"],
    )
    rows = {line.split("  ")[0].strip(): line.split() for line in out.splitlines()}
    assert {"spaces", "after spaces", "words of words.txt", "codons, frame 0", "intervals of genes.bed"} <= set(rows)
    assert "chunks of" in out
    assert rows["words of words.txt"][3] == "2"
    assert rows["intervals of genes.bed"][3] == "2"


def test_html_and_png(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = shown(saved, capsys, "the cat", "--html", str(tmp_path / "a.html"), "--png", str(tmp_path / "a.png"))
    assert out == ""
    assert '"glyphs": "the cat"' in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--file", "x"], "a text and --file are given"),
        (["--file", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["--file", "sample:english", "--document", "99999"], "has no document 99999"),
        (["a", "--codons", "3"], "codon frame must be 0, 1 or 2, got 3"),
        (["a", "--bpe", "nowhere.json"], "nowhere.json: no such file"),
        (["a", "--words", "nowhere.txt"], "nowhere.txt: cannot be read"),
        (["a", "--bed", "nowhere.bed"], "nowhere.bed: cannot be read"),
        (["a", "--html", "nowhere/a.html"], "nowhere/a.html: cannot be written: No such file"),
        (["a", "--png", "nowhere/a.png"], "nowhere/a.png: cannot be written: No such file"),
        (["a", "--max-bytes", "0"], "--max-bytes must be 1 or more, got 0"),
        (["a", "--document", "-1"], "--document must be 0 or more, got -1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    saved: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["chunks", saved, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
