"""`hnet-lm match`, training of what it writes, and `hnet-lm compare`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from baseline_models import BYTE_MODEL

from hnet_lm import checkpoint
from hnet_lm.baselines import FAMILIES
from hnet_lm.cli.main import MISTAKE, main
from hnet_lm.config import HNetConfig
from hnet_lm.evaluation import ByteScorer, bits_per_byte
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.tables import from_table

REFERENCE = Path(__file__).parents[2] / "configs" / "models" / "demo.json"
WORDS = "a cat and the dog sat on some large mats while it rained over Amsterdam and Ghent".split()  # noqa: SIM905


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    texts = [" ".join(WORDS[i % 9 :] + WORDS[: i % 11]) + ".\n" for i in range(60)]
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return path


@pytest.fixture(scope="module")
def byte_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("byte") / "model"
    checkpoint.save(HNetLM(HNetConfig.from_dict(BYTE_MODEL)), path)
    return path


@pytest.fixture(scope="module")
def matched(tmp_path_factory: pytest.TempPathFactory, corpus: Path, byte_model: Path) -> Path:
    """A folder with a config of every family, matched to the small model."""
    folder = tmp_path_factory.mktemp("matched")
    arguments = ["--to", str(REFERENCE), "--bytes-per-chunk", "4", "--sequence-length", "128"]
    arguments += ["--family", *FAMILIES, "--byte-model", str(byte_model), "--text", str(corpus)]
    arguments += ["--num-tokens", "280", "--stride", "4", "--output", str(folder)]
    assert main(["match", *arguments]) == 0
    return folder


def test_match_writes_a_config_of_each_family_within_the_tolerance(matched: Path):
    target = total_flops_per_byte(HNetConfig.load(REFERENCE), 128, (4.0,))
    for name, family in FAMILIES.items():
        config = HNetConfig.load(matched / f"{name}.json")
        assert config.num_stages == family.num_stages
        assert config.reads_tokens == family.reads_tokens
        if config.num_stages == 0 and not config.reads_tokens:
            assert total_flops_per_byte(config, 128, ()) == pytest.approx(target, rel=0.02)


def run_of(name: str, matched: Path, corpus: Path, byte_model: Path, num_steps: int = 2) -> RunConfig:
    ratios = {"hnet-1stage": [4.0], "hnet-2stage": [2.0, 2.0]}.get(name, [])
    num_stages = FAMILIES[name].num_stages
    table: dict[str, Any] = {
        "run": {"directory": str(matched / "runs" / name), "num_steps": num_steps, "precision": "float32"},
        "model": {"config": str(matched / f"{name}.json")},
        "data": {"sources": [{"path": str(corpus)}], "tokens_per_batch": 256, "max_length": 128},
        "loss": {"target_ratios": ratios},
        "optimizer": {"lr": 1e-3},
        "logging": {"every": 1},
    }
    if name == "hnet-entropy":
        table["model"]["byte_model"] = str(byte_model)
        table["optimizer"]["lr_multipliers"] = [1.0] * (num_stages + 1)
    if name == "bpe":
        table["data"]["tokenizer"] = str(matched / "tokenizer.json")
    return from_table(RunConfig, table)


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_trains_with_the_same_loop(name: str, matched: Path, corpus: Path, byte_model: Path):
    config = run_of(name, matched, corpus, byte_model)
    assert train(config).step == 2
    model: Any = checkpoint.load(config.run.directory)
    if name == "hnet-entropy":  # its byte model is in the saved model, unchanged
        trained = model.network.routing.byte_model.state_dict()
        assert all(torch.equal(trained[key], value) for key, value in checkpoint.load(byte_model).state_dict().items())


def test_compare(matched: Path, corpus: Path, byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = ["hnet-1stage", "hnet-space", "bpe", "llamabyte"]
    for name in names:
        train(run_of(name, matched, corpus, byte_model))
    questions = tmp_path / "questions.jsonl"
    asked = [{"prompt": "the dog", "choices": [" sat", " mats"], "answer": i % 2} for i in range(3)]
    questions.write_text("".join(json.dumps(question) + "\n" for question in asked))
    runs = [str(matched / "runs" / name) for name in names]
    arguments = ["compare", *runs, "--text", str(corpus), "--max-bytes", "1500", "--document-bytes", "60"]
    capsys.readouterr()
    assert main([*arguments, "--perturb", "--questions", str(questions), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert list(facts) == names
    texts = [json.loads(line)["text"].encode() for line in corpus.read_text().splitlines()]
    taken, num_bytes = [], 0
    for text in texts:
        taken.append(text)
        num_bytes += len(text)
        if num_bytes >= 1500:
            break
    pieces = [text[start : start + 60] for text in taken for start in range(0, len(text), 60)]
    for name in names:
        model = checkpoint.load(matched / "runs" / name)
        found = facts[name]
        assert found["num_bytes"] == num_bytes
        assert found["parameters"] == sum(p.numel() for p in model.parameters())
        low, high = found["interval_95"]
        assert low < found["bits_per_byte"] < high
        assert found["bytes_per_second"] > 0
        assert found["robustness"]["num_questions"] == 3
        assert found["perturbed_bits_per_clean_byte"] > 0
        chunks = found["bytes_per_chunk"]
        lengths, bytes_per_token = ([], chunks[0]) if name == "bpe" else (chunks, 1.0)
        flops = total_flops_per_byte(model.config, 128, lengths, bytes_per_token)
        assert found["forward_flops_per_byte"] == flops
        if name != "bpe":
            measured = bits_per_byte(ByteScorer(model), {"": pieces})
            assert found["bits_per_byte"] == pytest.approx(measured.value, rel=1e-6)
    assert main([*arguments, "--markdown", str(tmp_path / "table.md"), "--png", str(tmp_path / "figure.png")]) == 0
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert lines[0] == "| model | params | MFLOPs/B | B/chunk | bits/B | 95 % | kB/s |"
    order = sorted(names, key=lambda name: facts[name]["bits_per_byte"])
    assert [line.split(" | ")[0].removeprefix("| ") for line in lines[2:]] == order
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    assert "hnet-space" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (
            ["match", "--to", "{reference}", "--family", "spacebite"],
            "unknown key 'spacebite'; did you mean 'spacebyte'?",
        ),
        (["match", "--to", "{reference}", "--family", "hnet-entropy", "--output", "{tmp}"], "needs --byte-model"),
        (["match", "--to", "no.json"], "no.json: cannot be read"),
        (["compare", "{tmp}/nothing"], "no such directory"),
        (["compare"], "one run or more"),
    ],
)
def test_mistakes(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = {"reference": REFERENCE, "tmp": tmp_path}
    assert main([argument.format(**names) for argument in arguments]) == MISTAKE
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1
