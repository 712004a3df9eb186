"""Commands on a saved model of tokens, which has its tokenizer beside it."""

import json
from pathlib import Path

import pytest

from hnet_lm.cli.main import main
from hnet_lm.generation import generate
from token_models import TEXT, save_token_model


def test_generate_and_evaluate(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    model, pairs = save_token_model(tmp_path / "model")
    assert main(["generate", str(tmp_path / "model"), "the cat", "--max-new-bytes", "20", "--temperature", "0"]) == 0
    (expected,) = generate(model, ["the cat"], max_new_bytes=20, temperature=0.0, tokenizer=pairs)
    assert capsys.readouterr().out == expected + "\n"

    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    command = ["evaluate", "bpb", str(tmp_path / "model"), str(text), "--spelling-bytes", "20"]
    assert main([*command, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["spellings"]
    assert found["num_bytes"] == 20
    assert found["all_spellings"] < found["canonical"]
    assert main(command) == 0
    assert "the tokenizer's alone" in capsys.readouterr().out
    assert main([*command[:-1], "0", "--json"]) == 0
    assert "spellings" not in json.loads(capsys.readouterr().out)

    (tmp_path / "model" / "tokenizer.json").unlink()
    assert main(["generate", str(tmp_path / "model"), "the cat"]) == 2
    assert "tokenizer.json: no such file" in capsys.readouterr().err
