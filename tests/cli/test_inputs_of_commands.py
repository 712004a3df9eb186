"""What commands read: pipes, any name, the options that a run file has for its sources, records that are damaged."""

import gzip
import io
import json
import os
import sys
import threading
from pathlib import Path

import pytest

from hnet_lm.cli.main import main
from hnet_lm.cli.terminal import print_json
from hnet_lm.evaluation import compressor_bits_per_byte


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def measured(capsys: pytest.CaptureFixture[str], saved: str, *arguments: str) -> dict:
    code, out, err = run(capsys, "evaluate", "bpb", saved, *arguments, "--json")
    assert code == 0, err
    return json.loads(out)


@pytest.mark.parametrize("name", ["code.py", "enwik8", "10:30.log", "a=b", "a [1].csv"])
def test_evaluation_reads_a_file_of_any_name(
    saved: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_text("print(1)\n")
    assert measured(capsys, saved, name)["num_bytes"] == 9
    code, _, err = run(capsys, "chunks", saved, "--file", name)
    assert (code, err) == (0, "")


def test_options_of_sources(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "lines"
    path.write_text('{"content": "hello"}\n{"content": "you"}\n')
    assert measured(capsys, saved, str(path), "--format", "jsonl", "--field", "content")["num_bytes"] == 8
    assert measured(capsys, saved, str(path), "--separator", "\n")["num_documents"] == 2
    arguments = ("--format", "jsonl", "--field", "content", "--document", "1")
    code, out, _ = run(capsys, "chunks", saved, "--file", str(path), *arguments)
    assert (code, out.splitlines()[0].split()[1]) == (0, "you")


def test_damaged_records_are_raised_or_skipped_and_counted(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": null}\n{"text": "good"}\nnothing\n{"text": "also"}\n')
    (tmp_path / "b.txt").write_bytes(b"bytes \xff of a model's EOS")
    (tmp_path / "c.txt").write_bytes(b"fine")
    code, out, err = run(capsys, "evaluate", "bpb", saved, str(path))
    assert (code, out) == (2, "")
    assert f"{path}:1: field 'text' is not a string but NoneType" in err
    code, out, err = run(capsys, "evaluate", "bpb", saved, str(tmp_path / "*"), "--on-error", "skip", "--json")
    assert code == 0
    assert json.loads(out)["num_bytes"] == 12
    assert "hnet-lm: skipped: " in err
    assert "damaged files and records left out: 3" in err
    assert err.count("\n") == 2


def pipe_with(data: bytes) -> str:
    source, sink = os.pipe()

    def send() -> None:
        with open(sink, "wb") as file:
            file.write(data)

    threading.Thread(target=send, daemon=True).start()
    return f"/dev/fd/{source}"


def test_pipes_are_read_once(saved: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = b"a text that comes through a pipe\n" * 9
    found = measured(capsys, saved, pipe_with(gzip.compress(text)), "--compressors", "xz", "gzip")
    assert found["num_bytes"] == len(text)
    (compressed,) = found["compressors"].values()
    assert compressed == {name: compressor_bits_per_byte(text, name) for name in ("xz", "gzip")}
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    assert measured(capsys, saved, "-")["num_bytes"] == len(text)


VCF = "#CHROM\tPOS\tID\tREF\tALT\nchr1\t5\t.\tA\tG,<DEL>\nchr1\t900\t.\tA\tG\n1\t5\t.\tA\tG\nchr1\t9\t.\tC\tT\n"


def test_variants_from_pipes(
    saved: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fasta = b">chr1\nACGGATTACAGG\n"
    (tmp_path / "reference").write_bytes(gzip.compress(fasta))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(VCF.encode())))
    options = ("--flank", "3", "--variants")
    code, out, err = run(capsys, "evaluate", "dna", saved, str(tmp_path / "reference"), *options, "-")
    assert code == 0
    assert [line.split("\t")[1] for line in out.splitlines()] == ["pos", "5", "9"]
    assert "skipped: variant in line 3, chr1:900: is not in the reference" in err
    assert "-: alleles left out because they are not bases: 1" in err
    assert "-: variants left out: 2" in err
    assert run(capsys, "evaluate", "dna", saved, pipe_with(fasta), *options, pipe_with(VCF.encode()))[1] == out
    code, out, err = run(capsys, "evaluate", "dna", saved, pipe_with(fasta))
    assert (code, out.split()[:2]) == (0, ["12", "bases,"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-", "--variants", "-"], "only one of FASTA and --variants can be standard input"),
        (["r.fa", "--variants", "v.vcf", "--on-error", "raise"], "line 3, chr1:900: is not in the reference"),
        (
            ["r.fa", "--variants", "none.vcf"],
            "none.vcf: has no variant that could be scored; the first was left out: variant in line 2, chr2:5",
        ),
        (["r.fa", "--variants", "v.vcf", "--flank", "-1"], "--flank: must be a whole number, 0 or more, got -1"),
    ],
)
def test_mistakes(
    saved: str,
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("r.fa").write_text(">chr1\nACGGATTACAGG\n")
    Path("v.vcf").write_text(VCF)
    Path("none.vcf").write_text("#CHROM\tPOS\tID\tREF\tALT\nchr2\t5\t.\tA\tG\n")
    code, out, err = run(capsys, "evaluate", "dna", saved, *arguments)
    assert code == 2
    assert message in err
    assert "hnet-lm: error: " in err.splitlines()[-1]
    assert not [line for line in out.splitlines() if "\t900\t" in line]


def test_json_has_no_separator_of_lines_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    text = "one\u2028two\u2029three\x85four\x0b\x1c 中"
    print_json({text: [text]})
    (line,) = capsys.readouterr().out.splitlines()
    assert json.loads(line) == {text: [text]}


def test_one_bad_question_never_ends_all(saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "questions"
    good = json.dumps({"prompt": "The sky is", "choices": [" blue.", " a fish."], "answer": 0})
    path.write_bytes(b"\xef\xbb\xbf" + f"{good}\n{{}}\nnothing\n{good}\n".encode())
    code, out, err = run(capsys, "evaluate", "robustness", saved, "--questions", str(path))
    assert (code, out) == (2, "")
    assert "questions, line 2: not a question" in err
    arguments = ("--questions", pipe_with(gzip.compress(path.read_bytes())), "--on-error", "skip", "--json")
    code, out, err = run(capsys, "evaluate", "robustness", saved, *arguments)
    assert code == 0, err
    assert json.loads(out)["accuracy"]["num_questions"] == 2
