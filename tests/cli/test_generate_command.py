"""`hnet-lm generate` with a saved model: real files, real standard input, exit codes and messages."""

import io
import json
import sys
from pathlib import Path

import pytest

import hnet_lm
from hnet_lm.cli.main import main
from hnet_lm.generation.rounded_weights import Weights, with_weights


def type_in(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="utf-8"))


def expected(saved: str, prompts: list[str | bytes]) -> list[str]:
    return hnet_lm.generate(hnet_lm.load(saved), prompts, max_new_bytes=12, seed=3, valid_utf8=True)


OPTIONS = ["--max-new-bytes", "12", "--seed", "3", "--valid-utf8"]


def test_prompts_as_arguments(saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", saved, "Once", "中", *OPTIONS]) == 0
    first, second = expected(saved, ["Once", "中"])
    assert capsys.readouterr().out == f"{first}\n\n{second}\n"
    assert main(["generate", saved, "Once", *OPTIONS, "--echo"]) == 0
    assert capsys.readouterr().out == f"Once{first}\n"


@pytest.mark.parametrize("weights", ["float32", "bfloat16", "int8"])
def test_smaller_weights(saved: str, weights: Weights, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", saved, "Once", *OPTIONS, "--precision", weights]) == 0
    smaller = with_weights(hnet_lm.load(saved), weights)
    [text] = hnet_lm.generate(smaller, ["Once"], max_new_bytes=12, seed=3, valid_utf8=True)
    assert capsys.readouterr().out == f"{text}\n"


def test_json_with_log_probabilities(saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", saved, "Once", "", *OPTIONS, "--json", "--logprobs", "2"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [item["text"] for item in found] == expected(saved, ["Once", ""])
    assert [item["prompt"] for item in found] == ["Once", ""]
    assert {item["finish_reason"] for item in found} == {"length"}
    assert [len(item["logprobs"]) for item in found] == [item["num_bytes"] for item in found] == [12, 12]
    assert len(found[0]["logprobs"][0]["top"]) == 2


def test_a_prompt_from_a_file_or_standard_input(
    saved: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    path = tmp_path / "prompt.txt"
    path.write_bytes(b"two\nlines\0")
    whole = expected(saved, [b"two\nlines\0"])[0] + "\n"
    assert main(["generate", saved, "--file", str(path), *OPTIONS]) == 0
    assert capsys.readouterr().out == whole
    type_in(monkeypatch, b"two\nlines\0")
    assert main(["generate", saved, *OPTIONS]) == 0
    assert capsys.readouterr().out == whole
    type_in(monkeypatch, b"one\ntwo\n")
    assert main(["generate", saved, "--file", "-", "--lines", "--json", *OPTIONS]) == 0
    found = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert found == expected(saved, ["one", "two"])


def test_raw_bytes(saved: str, capfdbinary: pytest.CaptureFixture[bytes]):
    assert main(["generate", saved, "a", "b", "--max-new-bytes", "9", "--seed", "1", "--ignore-eos", "--raw"]) == 0
    sys.stdout.flush()
    raw = hnet_lm.generate(hnet_lm.load(saved), ["a", "b"], max_new_bytes=9, seed=1, ignore_eos=True, return_bytes=True)
    assert capfdbinary.readouterr().out == b"".join(raw)


def test_interactive(saved: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    type_in(monkeypatch, "Once\n中\n".encode())
    assert main(["generate", saved, "--interactive", *OPTIONS]) == 0
    first, second = expected(saved, ["Once", "中"])
    assert capsys.readouterr().out == f"> Once{first}\n> 中{second}\n> \n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a", "--temperature", "nan"], "temperature: must be a number, 0 or more, got nan"),
        (["a", "--top-p", "-1"], "top_p: must be a number from 0 to 1, got -1.0"),
        (["a", "--temprature", "1"], "--temperature"),
        (["a", "--stop", ""], "a stop string must not be empty"),
        (["a", "--prefill-bytes", "0"], "prefill_bytes: must be a whole number, 1 or more, got 0"),
        (["a", "--pool-bytes", "100"], "a pool of 100 bytes is too small"),
        (["--file", "nowhere.txt"], "nowhere.txt: cannot be read: No such file or directory"),
        (["a", "--file", "x"], "leave out --file and --lines"),
        (["a", "--json", "--raw"], "--json, --raw and --echo exclude each other"),
        (["a", "--interactive"], "--interactive takes neither prompts"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(
    saved: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
):
    assert main(["generate", saved, *arguments]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    assert message in captured.err


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]):
    assert main(["generate", "no/model", "a"]) == 2
    assert "no/model: no such directory" in capsys.readouterr().err


def test_bytes_that_are_no_utf8_are_read_as_they_were_typed(saved: str, capsys: pytest.CaptureFixture[str]):
    assert main(["generate", saved, "caf\udce9", *OPTIONS]) == 0  # how Python shows the byte e9 of an argument
    [text] = expected(saved, [b"caf\xe9"])
    assert capsys.readouterr().out == f"{text}\n"
