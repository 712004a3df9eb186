"""`hnet-lm chunks` with a saved model: every way to read a text and to show its chunks."""

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

import hnet_lm
from hnet_lm import HNetConfig, HNetLM
from hnet_lm.cli.main import main
from hnet_lm.data.byte_pairs import BytePairs, train_byte_pairs


@pytest.fixture
def saved(two_stages: str) -> str:
    return two_stages


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


def test_references_fit_the_text(saved: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    def references(text: str, *arguments: str) -> list[str]:
        found = json.loads(shown(saved, capsys, text, "--json", *arguments))
        return [item["reference"] for item in found["stages"][0]["agreement"]]

    assert references("a plain text") == ["spaces", "after spaces"]
    assert references("naïve") == ["characters"]
    assert references("我来到北京清华大学,\n研究生命") == ["characters", "Chinese words"]
    assert references("我来到 北京", "--language", "other") == ["spaces", "after spaces", "characters"]
    assert references("def f(x):\n    return x\n") == ["spaces", "after spaces", "Python tokens"]
    assert references("x", "--language", "python") == ["Python tokens"]
    assert references("ACGT") == []
    monkeypatch.setitem(sys.modules, "jieba", None)
    monkeypatch.delitem(sys.modules, "hnet_lm.inspect.chinese", raising=False)
    assert main(["chunks", saved, "我来到北京", "--json"]) == 0
    assert capsys.readouterr().err == (
        "hnet-lm: the text is Chinese; comparing with Chinese words needs the package jieba: "
        "pip install 'hnet-lm[chinese]'\n"
    )
    assert main(["chunks", saved, "我来到北京", "--statistics", "--language", "chinese"]) == 2
    assert "pip install 'hnet-lm[chinese]'" in capsys.readouterr().err


def test_precision_of_characters_is_the_share_of_cuts_not_inside_one(saved: str, capsys: pytest.CaptureFixture[str]):
    text = "天地玄黄宇宙洪荒"
    found = json.loads(shown(saved, capsys, text, "--json"))["stages"][0]
    cuts = found["starts"][1:]
    (characters,) = [item for item in found["agreement"] if item["reference"] == "characters"]
    assert characters["precision"] == sum(cut % 3 == 0 for cut in cuts) / len(cuts)


def test_html_and_png(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    out = shown(saved, capsys, "the cat", "--html", str(tmp_path / "a.html"), "--png", str(tmp_path / "a.png"))
    assert out == ""
    assert '"glyphs": "the cat"' in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_only_the_beginning_of_a_long_text_is_said(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    (tmp_path / "long.txt").write_text("the cat sat")
    (tmp_path / "genome.fa").write_text(">one\nACGTACGTAC\n>two\nTTTT\n")

    def said(name: str, *arguments: str) -> tuple[str, str]:
        assert main(["chunks", saved, "--file", str(tmp_path / name), *arguments]) == 0
        captured = capsys.readouterr()
        return captured.out, captured.err

    out, err = said("long.txt", "--max-bytes", "7", "--statistics")
    assert out.startswith("only the first 7 of 11 bytes are counted\n")
    assert err == f"hnet-lm: {tmp_path}/long.txt: only the first 7 of 11 bytes are read; --max-bytes reads more\n"
    assert json.loads(said("long.txt", "--max-bytes", "7", "--json")[0])["is_whole_text"] is False
    assert json.loads(said("long.txt", "--max-bytes", "11", "--json")[0])["is_whole_text"] is True
    assert said("long.txt", "--max-bytes", "11")[1] == ""
    assert "only a stretch of 4 bases" in said("genome.fa", "--max-bytes", "4")[1]
    assert said("genome.fa", "--max-bytes", "11")[1] == ""
    said("long.txt", "--max-bytes", "7", "--html", str(tmp_path / "a.html"))
    assert "long.txt (7 bytes of it)" in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_an_output_that_fails_in_the_end_costs_neither_the_other_nor_the_picture(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    html = tmp_path / "a.html"
    assert main(["chunks", saved, "the cat", "--html", str(html), "--png", "/dev/full"]) == 2
    captured = capsys.readouterr()
    assert captured.err == "hnet-lm: error: /dev/full: cannot be written: No space left on device\n"
    assert "the cat" in captured.out
    assert html.exists()


def test_pictures_to_standard_output(saved: str, capfdbinary: pytest.CaptureFixture[bytes]):
    assert main(["chunks", saved, "the cat", "--png", "-"]) == 0
    assert capfdbinary.readouterr().out.startswith(b"\x89PNG")


def test_characters_without_a_font_are_said(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["chunks", saved, "a 𒀀", "--png", str(tmp_path / "a.png")]) == 0
    err = capsys.readouterr().err
    assert "no font on this machine has a character of it (𒀀), drawn as boxes; install one" in err
    assert err.count("\n") == 1


def test_a_model_of_tokens_shows_its_tokens(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    train_byte_pairs([b"the cat sat on the mat " * 20], 270, tmp_path / "tokenizer.json")
    pairs = BytePairs(tmp_path / "tokenizer.json")
    table = HNetConfig.load(Path(saved) / "config.json").to_dict()
    table |= {"arch_layout": ["m1"], "d_model": [64], "d_intermediate": [0], "reads_tokens": True}
    table["attn_cfg"] = {key: values[:1] for key, values in table["attn_cfg"].items()}
    model = tmp_path / "model"
    hnet_lm.save(HNetLM(HNetConfig.from_dict(table | {"vocab_size": pairs.vocab_size})), model)
    assert main(["chunks", str(model), "the cat"]) == 2
    assert "the model reads tokens; put its tokenizer.json into its folder" in capsys.readouterr().err
    (model / "tokenizer.json").write_bytes((tmp_path / "tokenizer.json").read_bytes())
    found = json.loads(shown(str(model), capsys, "the cat 中", "--json"))
    assert found["stages"][0]["starts"] == sorted({*pairs.encode("the cat 中".encode()).starts.tolist()})
    assert main(["chunks", str(model), "the cat"]) == 0
    captured = capsys.readouterr()
    assert "shown are its tokens, as stage 0" in captured.err
    assert captured.out.splitlines()[1].startswith("stage 0 ┗")


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_an_output_that_is_not_utf8(
    saved: str, encoding: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["chunks", saved, "né 中", "--probabilities"]) == 0
    assert main(["chunks", saved, "né 中", "--json"]) == 0
    assert main(["generate", saved, "né 中", "--json", "--max-new-bytes", "2"]) == 0
    *lines, facts, written = stream.buffer.getvalue().decode(encoding).splitlines()  # pyright: ignore[reportAttributeAccessIssue]  a BytesIO
    assert lines[0].endswith("n? ??" if encoding == "ascii" else "né ??")
    assert lines[1].startswith("stage 0 |")
    assert json.loads(facts)["num_bytes"] == 7
    assert json.loads(written)["prompt"] == "né 中"


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
        (["a", "--png", "a.txt"], "a.txt: cannot be written as .txt; the endings are .png, .pdf, .svg"),
        (["a", "--png", "-", "--html", "-"], "-: two outputs would be written there"),
        (["a", "--png", "-", "--json"], "--json and --statistics print to standard output"),
        (["a", "--max-bytes", "0"], "--max-bytes: must be a whole number, 1 or more, got 0"),
        (["a", "--document", "-1"], "--document: must be a whole number, 0 or more, got -1"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    saved: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["chunks", saved, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1
    assert message in captured.err
