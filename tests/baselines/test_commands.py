"""`hnet-lm match`, training of what it writes, and `hnet-lm compare`."""

import dataclasses
import json
from pathlib import Path
from statistics import fmean, median
from typing import Any

import pytest
import torch
from baseline_models import BYTE_MODEL

from hnet_lm import checkpoint
from hnet_lm.baselines import FAMILIES
from hnet_lm.cli.main import MISTAKE, main
from hnet_lm.cli.run_file import matched_run
from hnet_lm.config import HNetConfig
from hnet_lm.data.byte_pairs import BytePairs
from hnet_lm.evaluation import ByteScorer, bits_per_byte, perturbed_bits_per_byte
from hnet_lm.evaluation.comparison import plain_number
from hnet_lm.model import HNetLM
from hnet_lm.model.flops import total_flops_per_byte
from hnet_lm.named_configs import FOLDER
from hnet_lm.tables import from_table
from hnet_lm.training.config import RunConfig
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import read_metrics
from hnet_lm.training.optimizer import lr_multipliers

REFERENCE = FOLDER / "models" / "demo.json"
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


@pytest.mark.parametrize("name", FAMILIES)
def test_the_run_file_beside_each_config_is_ready_to_train(
    name: str, matched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    small = ["--data.tokens-per-batch", "256", "--run.precision", "float32", "--run.num-steps", "1"]
    assert main(["train", str(matched / f"{name}.toml"), "--run.directory", str(tmp_path / "run"), *small]) == 0
    assert checkpoint.load(tmp_path / "run").config == HNetConfig.load(matched / f"{name}.json")


def test_run_files_keep_what_the_run_gave(matched: Path, corpus: Path, byte_model: Path):
    run = run_of("hnet-1stage", matched, corpus, byte_model)
    run = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, lr_multipliers=(2.0, 1.5)))

    def multipliers(name: str) -> tuple[float, ...] | None:
        config = HNetConfig.load(matched / f"{name}.json")
        found = matched_run(run, config, config_path="x.json", directory="d", bytes_per_chunk=(4.0,))
        assert found.data == dataclasses.replace(run.data, tokenizer="")
        assert (found.run.num_steps, found.schedule, found.validation) == (2, run.schedule, run.validation)
        return found.optimizer.lr_multipliers

    assert multipliers("hnet-1stage") == multipliers("hnet-space") == (2.0, 1.5)
    assert multipliers("spacebyte") == (1.0, 1.0)
    assert multipliers("hnet-2stage") is multipliers("mambabyte") is None
    plain = dataclasses.replace(run, optimizer=dataclasses.replace(run.optimizer, lr_multipliers=None))
    config = HNetConfig.load(matched / "hnet-pool.json")
    as_entropy = HNetConfig.load(matched / "hnet-entropy.json")
    found = matched_run(
        plain, as_entropy, config_path="x", directory="d", bytes_per_chunk=(4.0,), byte_model="somewhere"
    )
    assert found.optimizer.lr_multipliers is not None
    expected = lr_multipliers(dataclasses.replace(as_entropy, chunkers=config.chunkers, byte_model=None), ())
    assert found.optimizer.lr_multipliers == pytest.approx(expected, abs=1e-4)


def test_numbers_in_tables_have_no_exponent():
    numbers = [(1469.9, 3), (311.2, 3), (1.9144, 3), (0.02, 3), (12345.6, 4), (690.07, 4)]
    assert [plain_number(*number) for number in numbers] == ["1,470", "311", "1.91", "0.0200", "12,346", "690.1"]


def match_of(capsys: pytest.CaptureFixture[str], corpus: Path, output: Path, *arguments: str) -> list[str]:
    assert main(["match", "--text", str(corpus), "--num-tokens", "280", "--output", str(output), *arguments]) == 0
    return capsys.readouterr().out.splitlines()


def test_match_of_a_run_takes_its_lengths(
    matched: Path, corpus: Path, byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run = run_of("hnet-1stage", matched, corpus, byte_model)
    run = dataclasses.replace(run, run=dataclasses.replace(run.run, directory=str(tmp_path / "run")))
    train(run)
    capsys.readouterr()
    measured = [r["stage0/bytes_per_chunk"] for r in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" in r][
        -1
    ]
    families = ("--family", "llamabyte", "hnet-1stage", "bpe")
    first, *_ = match_of(capsys, corpus, tmp_path / "out", "--to", run.run.directory, *families, "--tolerance", "0.1")
    reference = checkpoint.load(run.run.directory).config
    target = total_flops_per_byte(reference, 128, (measured,))
    assert first == (
        f"{run.run.directory}: {plain_number(target / 1e6, 4)} MFLOPs per byte, at sequences of 128 bytes "
        f"(its data.max_length) and {measured:.4g} bytes per chunk (measured)"
    )
    for name, chunks in (("llamabyte", ()), ("hnet-1stage", (measured,))):
        config = HNetConfig.load(tmp_path / "out" / f"{name}.json")
        assert total_flops_per_byte(config, 128, chunks) == pytest.approx(target, rel=0.1)
    written = RunConfig.load(tmp_path / "out" / "bpe.toml")
    assert written.data == dataclasses.replace(run.data, tokenizer=str(tmp_path / "out" / "tokenizer.json"))
    assert (written.run.directory, written.run.num_steps) == (f"{run.run.directory}-bpe", 2)
    assert written.loss.target_ratios == ()
    assert RunConfig.load(tmp_path / "out" / "hnet-1stage.toml").loss == run.loss
    given = match_of(
        capsys, corpus, tmp_path / "out", "--to", run.run.directory, "--family", "llamabyte", "--tolerance", "0.1",
        "--sequence-length", "64", "--bytes-per-chunk", "3",
    )  # fmt: skip
    assert "at sequences of 64 bytes (as given) and 3 bytes per chunk (as given)" in given[0]


def test_match_of_a_bare_config_says_first_what_it_assumes(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    lines = match_of(capsys, corpus, tmp_path, "--to", str(REFERENCE), "--family", "hnet-2stage", "--tolerance", "0.1")
    assert lines[0].startswith(
        "assumed: sequences of 8192 bytes (--sequence-length) and 4.8 bytes per chunk, as in the published models "
        "(--bytes-per-chunk); give what is true"
    )
    (row,) = [line for line in lines if line.split()[:1] == ["hnet-2stage"]]
    assert row.endswith("2.65, 7.02 (assumed)  ")
    arguments = ("--to", str(REFERENCE), "--family", "hnet-2stage", "--tolerance", "0.2", "--bytes-per-chunk", "4")
    lines = match_of(capsys, corpus, tmp_path, *arguments, "--other-bytes-per-chunk", "2", "6")
    (row,) = [line for line in lines if line.split()[:1] == ["hnet-2stage"]]
    assert row.endswith("2, 6  ")
    said = match_of(
        capsys, corpus, tmp_path, "--to", str(REFERENCE), "--family", "mambabyte", "--tolerance", "0.5",
        "--sequence-length", "1024", "--bytes-per-chunk", "5.1",
    )  # fmt: skip
    assert not said[0].startswith("assumed")


def test_match_measures_on_the_first_bytes_and_says_so(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    arguments = ("--to", str(REFERENCE), "--family", "hnet-space", "--tolerance", "0.1")
    said = f"chunks at spaces and tokens are measured on the first 500 bytes of {corpus}"
    assert said in match_of(capsys, corpus, tmp_path, *arguments, "--max-bytes", "500")
    assert said not in match_of(capsys, corpus, tmp_path, *arguments)


def test_a_model_of_tokens_is_matched_per_byte(
    matched: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    pairs = BytePairs(matched / "tokenizer.json")
    texts = [json.loads(line)["text"].encode() for line in corpus.read_text().splitlines()]
    per_token = sum(map(len, texts)) / sum(len(pairs.encode(text).ids) for text in texts)
    config = HNetConfig.load(matched / "bpe.json")
    arguments = ("--to", str(matched / "bpe.json"), "--sequence-length", "128", "--family", "llamabyte")
    assert main(["match", *arguments, "--output", str(tmp_path)]) == 2
    assert "the model reads tokens; give its --tokenizer" in capsys.readouterr().err
    tokenizer = ("--tokenizer", str(matched / "tokenizer.json"), "--tolerance", "0.2")
    first, *_ = match_of(capsys, corpus, tmp_path, *arguments, *tokenizer)
    assert f"{plain_number(total_flops_per_byte(config, 128, (), per_token) / 1e6, 4)} MFLOPs per byte" in first
    assert HNetConfig.load(tmp_path / "llamabyte.json").vocab_size == 256


def test_one_family_without_a_match_costs_no_other(corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    arguments = ["--to", str(REFERENCE), "--sequence-length", "1024", "--text", str(corpus), "--output", str(tmp_path)]
    assert main(["match", *arguments, "--family", "hnet-1stage", "llamabyte", "--tolerance", "0.001"]) == 2
    captured = capsys.readouterr()
    assert "hnet-1stage" in captured.out
    assert "left out: LlamaByte (global): no width" in captured.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hnet-1stage.json", "hnet-1stage.toml"]


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
    taken, num_bytes = [], 0
    for text in [json.loads(line)["text"].encode() for line in corpus.read_text().splitlines()]:
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
        records = read_metrics(matched / "runs" / name / "metrics.jsonl")
        assert found["bytes_per_second"] == median(r["bytes_per_second"] for r in records if "bytes_per_second" in r)
        assert found["robustness"]["num_questions"] == 3
        chunks = found["bytes_per_chunk"]
        lengths, bytes_per_token = ([], chunks[0]) if name == "bpe" else (chunks, 1.0)
        flops = total_flops_per_byte(model.config, 128, lengths, bytes_per_token)
        assert found["forward_flops_per_byte"] == flops
        if name != "bpe":
            measured = bits_per_byte(ByteScorer(model), {"": pieces})
            assert found["bits_per_byte"] == pytest.approx(measured.value, rel=1e-6)
        if name == "hnet-space":
            texts = [piece.decode("utf-8", "replace") for piece in pieces]
            perturbed = perturbed_bits_per_byte(ByteScorer(model), texts)
            of_five = fmean(result.bits_per_clean_byte for kind, result in perturbed.items() if kind != "clean")
            assert found["perturbed_bits_per_clean_byte"] == pytest.approx(of_five, rel=1e-6)
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
            "--family: no family 'spacebite'; there are llamabyte, ",
        ),
        (["match", "--to", "{reference}", "--family", "hnet-entropy", "--output", "{tmp}"], "needs --byte-model"),
        (["match", "--to", "no.json"], "no.json: cannot be read"),
        (["compare", "{tmp}/nothing"], "no such directory"),
        (["compare"], "one run or more"),
        (["match", "--to", "{reference}", "--stride", "1"], "--stride: must be a whole number, 2 or more, got 1"),
        (
            ["match", "--to", "{reference}", "--sequence-length", "0"],
            "a whole number, 1 or more, got 0",
        ),
        (["compare", "{tmp}", "--document-bytes", "0"], "--document-bytes: must be a whole number, 1 or more, got 0"),
        (["compare", "{tmp}", "--markdown", "{tmp}/no/t.md"], "no/t.md: cannot be written: No such file"),
        (["compare", "{tmp}", "--png", "{tmp}/t.docx"], "the endings are .png, .pdf, .svg"),
    ],
)
def test_mistakes(arguments: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    names = {"reference": REFERENCE, "tmp": tmp_path}
    assert main([argument.format(**names) for argument in arguments]) == MISTAKE
    complaint = capsys.readouterr().err
    assert says in complaint
    assert complaint.count("\n") == 1


def test_what_was_measured_before_a_run_that_cannot_be_is_printed(
    matched: Path, corpus: Path, byte_model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    broken = tmp_path / "broken"
    checkpoint.save(checkpoint.load(byte_model), broken)
    (broken / "model.safetensors").write_bytes(b"no weights")
    capsys.readouterr()
    assert main(["compare", str(byte_model), str(broken), "--text", str(corpus), "--max-bytes", "200"]) == MISTAKE
    captured = capsys.readouterr()
    assert "model" in captured.out
    assert "broken" in captured.err


def test_results_are_printed_though_no_file_can_be_written_in_the_end(
    byte_model: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    table = tmp_path / "t.md"
    arguments = ["compare", str(byte_model), "--text", str(corpus), "--max-bytes", "200"]
    assert main([*arguments, "--png", "/dev/full", "--markdown", str(table)]) == MISTAKE
    captured = capsys.readouterr()
    assert "bits/B" in captured.out
    assert captured.err == "hnet-lm: error: /dev/full: cannot be written: No space left on device\n"
    assert table.read_text().startswith("| model |")
    assert main([*arguments, "--markdown", "-"]) == 0
    assert capsys.readouterr().out == table.read_text()
