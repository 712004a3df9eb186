"""The comparison in small: which cells there are, who runs them, and what its report says."""

import json
import lzma
from pathlib import Path
from typing import Any

import pytest
from experiments.paper import report, run
from experiments.paper.plan import LENGTH, NUM_STEPS, RATES, TUNING_STEPS, VOCABULARIES, Cell
from filelock import FileLock


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(run, "RUNS", tmp_path)
    (tmp_path / "english").mkdir()
    return tmp_path


def write_metrics(cell: Cell, step: int) -> None:
    run.run_folder(cell).mkdir()
    (run.run_folder(cell) / "metrics.jsonl").write_text(f'{{"step": {step}}}\n')


def finish(cell: Cell, validation: float) -> None:
    run.result_file(cell).write_text(json.dumps({"validation": validation, "seconds": 10.0}))


def test_a_model_is_trained_once_its_rates_are_known_and_takes_the_best() -> None:
    tuning = run.tuning_cells("english", "bpe")
    assert [cell.lr for cell in tuning] == list(RATES)
    assert run.model_cells("english", "bpe", 0) == []
    for cell in tuning:
        finish(cell, 2.0 + abs(cell.lr - RATES[2]))
    assert run.model_cells("english", "bpe", 0) == []  # its vocabulary is not known yet
    for cell, bits in zip(run.vocabulary_cells("english"), (2.1, 2.0, 1.9), strict=True):
        assert cell.lr == RATES[2]
        finish(cell, bits)
    assert run.model_cells("english", "bpe", 1) == [Cell("english", "bpe", RATES[2], 1, NUM_STEPS, VOCABULARIES[2])]
    assert run.model_cells("chinese", "bpe", 0)[0].lr == RATES[2]  # it takes the rates of English


def test_ablations_are_of_the_corpus_that_was_tuned_on_and_take_its_rate() -> None:
    for cell in run.tuning_cells("english", "1stage"):
        finish(cell, cell.lr)
    (cell,) = run.model_cells("english", "1stage-no-smoothing", 1)
    assert cell in run.cells_of("english")
    assert cell.lr == RATES[0]
    assert not any("no-smoothing" in cell.variant for cell in run.cells_of("chinese"))


def test_a_cell_that_another_process_is_at_is_left_to_it(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Cell] = []

    def train(cell: Cell, folder: Path) -> None:
        asked.append(cell)
        write_metrics(cell, cell.num_steps)

    monkeypatch.setattr(run, "train", train)
    monkeypatch.setattr(run, "measure", lambda cell, folder: {"validation": 2.0})
    first, second = run.tuning_cells("english", "1stage")[:2]
    with FileLock(run.result_file(first).with_name(f"{first.name}.lock")):
        assert not run.run_cell(first, runs)
        assert run.run_cell(second, runs)
    assert asked == [second]
    assert run.run_cell(first, runs)
    assert not run.run_cell(first, runs)  # it is done
    assert asked == [second, first]


def test_a_run_that_was_stopped_is_not_measured(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cell = run.tuning_cells("english", "1stage")[0]
    monkeypatch.setattr(run, "train", lambda cell, folder: write_metrics(cell, cell.num_steps - 1))
    with pytest.raises(SystemExit, match="is not finished; the same command goes on"):
        run.run_cell(cell, runs)
    assert run.measured(cell) is None


def facts(variant: str, seed: int, bits: float, **more: Any) -> dict[str, Any]:
    test = {
        "bits_per_byte": bits,
        "interval_95": [bits - 0.1, bits + 0.1],
        "parameters": 2_000_000,
        "forward_flops_per_byte": 2_150_000.0,
        "bytes_per_chunk": [],
    }
    seen = [100, 200, 300, 400]
    curve = {"bytes_seen": seen, "bits_per_byte": [bits * 400 / b for b in seen], "bytes_before_decay": 300}
    result = {"test": test, "out_of_domain": test, "curve": curve, "bytes_read": 400.0} | more
    return {"variant": variant, "seed": seed, "lr": 1e-3, "num_steps": NUM_STEPS, "num_tokens": 0, "result": result}


def test_the_report_has_means_over_seeds_and_factors_of_data(tmp_path: Path) -> None:
    chunks = {"boundaries": [{"enrichment": {"value": 1.9, "null_mean": 1.0}}]}
    found = {
        "bpe-0": facts("bpe", 0, 2.4),
        "bpe-1": facts("bpe", 1, 2.4),
        "1stage-0": facts("1stage", 0, 2.0, **chunks),
        "1stage-1": facts("1stage", 1, 2.2, **chunks),
        "tuned": {
            **{"variant": "1stage", "seed": 0, "lr": 1e-3, "num_steps": TUNING_STEPS, "num_tokens": 0},
            "result": {"validation": 2.7},
        },
    }
    lines = report.page(found).splitlines()
    assert lines[2].startswith("| 1stage | 2 | 2.100 ± 1.271 | 1.900-2.100 |")  # t of one degree of freedom is 12.7
    assert "| 1.900" in lines[2]
    assert lines[3].startswith("| bpe | 2 | 2.400 ± 0.000 |")
    (factor,) = [line for line in lines if line.startswith("| 1stage |") and line.count("|") == 4]
    assert 1.05 < float(factor.split("|")[3]) < 1.25  # 2.4 / 2.1 of the data, as the curves are 1 / bytes
    assert "| 1stage | 2.700 |" in lines
    report.save_figure(found, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_pieces_are_as_long_as_sequences(runs: Path) -> None:
    """All of what is measured of each document, in documents of its own; elsewhere documents stay whole."""
    corpora = runs / "corpora"
    texts = ["It was a dark night. " * 200, "x" * 3000, "short"]
    (corpora / "english").mkdir(parents=True)
    with lzma.open(corpora / "english" / "validation.jsonl.xz", "wt") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
    whole, pieces = (
        [json.loads(line)["text"] for line in run.excerpt("english", what, corpora).read_text().splitlines()]
        for what in ("validation", "pieces")
    )
    assert whole == texts
    assert "".join(pieces) == "".join(whole)
    assert max(map(len, pieces)) == LENGTH
    assert len(pieces) == 5 + 3 + 1
