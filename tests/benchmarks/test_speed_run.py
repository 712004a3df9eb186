"""The speed benchmark from end to end, tiny: files, figures that follow from each other, parts measured again."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.ops.dispatch import Op, op_names
from run import OtherResults, run
from speed import length
from speed.settings import FULL, QUICK, LengthSettings
from speed.summary import summarize
from speed.targets import TARGETS

TINY = dataclasses.replace(QUICK, rounds=1, length=LengthSettings((256,), step_bytes=1024, window=31, rounds=1))
PARTS = ["peaks", "training", "decoding", "ops", "reading"]


pytestmark = pytest.mark.long


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("speed")
    run(TINY, PARTS, folder)
    return folder


@pytest.fixture
def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "speed.json").read_text())


def test_all_is_written(folder: Path, results: dict[str, Any]):
    assert list(results["parts"]) == PARTS
    text = (folder / "speed.md").read_text()
    for heading in ("Targets", "Peaks", "Training step", "Decoding", "Ops", "Reading"):
        assert f"## {heading}" in text
    assert (folder / "speed.png").read_bytes().startswith(b"\x89PNG")


def test_shares_and_ratios_follow_from_what_was_measured(results: dict[str, Any]):
    parts, summary = results["parts"], results["summary"]
    peak = max(found["flops_per_second"] for found in parts["peaks"]["matmul"].values())
    assert summary["peaks"]["flops_per_second"] == peak

    rows = parts["training"]["matched"]
    seconds_per_flop = {name: row["seconds"] / (row["flops_per_byte"] * row["bytes"]) for name, row in rows.items()}
    for name, seconds in seconds_per_flop.items():
        assert summary["training"]["matched"][name]["share_of_peak"] == pytest.approx(1 / seconds / peak)
        relative = seconds / seconds_per_flop["llamabyte"]
        assert summary["training"]["seconds_per_flop"][name] == pytest.approx(relative)
    assert parts["training"]["matched"]["bench"]["bytes_per_chunk"] == [pytest.approx(5, rel=0.02)]

    single = next(row for row in parts["decoding"]["streams"] if (row["model"], row["streams"]) == ("bench", 1))
    read = single["weight_bytes_read"] * single["steps"] / single["seconds"]
    share = summary["decoding"]["streams"]["bench"]["1"]["share_of_bound"]
    assert share == pytest.approx(read / parts["peaks"]["memory_read"]["bytes_per_second"])


def test_matched_models_cost_the_same(results: dict[str, Any]):
    matched = results["parts"]["training"]["matched"]
    assert len({row["bytes"] for row in matched.values()}) == 1
    for row in matched.values():
        assert row["flops_per_byte"] == pytest.approx(matched["bench"]["flops_per_byte"], rel=QUICK.training.tolerance)


def test_every_backend_of_every_op_is_there(results: dict[str, Any]):
    rows = results["parts"]["ops"]["rows"]
    for op in op_names():
        measured = {row["backend"] for row in rows if row["op"].partition(",")[0] == op}
        assert measured == set(Op(f"hnet_lm.ops.{op}").available()) - {"triton", "varlen"}, op  # which need a GPU
    assert not [row for row in rows if "error" in row["forward"]]


def test_a_part_measured_again_replaces_only_itself(folder: Path, results: dict[str, Any]):
    run(TINY, ["peaks"], folder)
    again = json.loads((folder / "speed.json").read_text())
    assert again["parts"]["peaks"] != results["parts"]["peaks"]
    assert {**again["parts"], "peaks": None} == {**results["parts"], "peaks": None}
    assert again["summary"] == json.loads(json.dumps(summarize(again["parts"])))


def test_results_of_other_settings_are_not_mixed(folder: Path):
    with pytest.raises(OtherResults, match="settings quick, now full"):
        run(FULL, [], folder)


def test_results_of_another_format_are_not_mixed(folder: Path, tmp_path: Path):
    earlier = json.loads((folder / "speed.json").read_text())
    del earlier["format"]
    (tmp_path / "speed.json").write_text(json.dumps(earlier))
    with pytest.raises(OtherResults, match="format None, now 2"):
        run(TINY, [], tmp_path)


def test_targets_are_met_missed_or_not_measured(results: dict[str, Any]):
    rows = [target.row(results["summary"], results["parts"]) for target in TARGETS]
    verdicts = {text: (measured, verdict) for text, measured, verdict in rows}
    assert verdicts["hnet-lm --help ≤ 0.50 s"] == ("not measured", "")
    summary = {"training": {"times_transformers": 5.0, "seconds_per_flop": {"bench": 1.16}}}
    found = [target.row(summary, {}) for target in TARGETS[1:3]]
    assert [row[1:] for row in found] == [("5.00 times", "met"), ("1.16 times", "missed")]


def test_steps_of_a_length_run_alone():
    found = length.measure(TINY, torch.device("cpu"))
    (row,), own = found["steps"], found["own_window"]
    assert (row["length"], row["window"], row["step_bytes"]) == (256, 31, 1024)
    assert [each["window"] for each in own] == [HNetConfig.load(TINY.model).stages[0].attention.window_size] * 2
    assert row["flops_per_byte"] < own[0]["flops_per_byte"]
    assert len(row["all_seconds"]) == 2
    assert 1e6 < row["peak_bytes"] < 1e9


def test_a_line_and_flat_cost_are_found():
    steps = [
        {"length": n, "step_bytes": 8000, "seconds": 0.016, "peak_bytes": 1000 * n + 5000} for n in (1000, 2000, 4000)
    ]
    steps[1]["seconds"] *= 1.2
    found = summarize({"length": {"steps": steps, "own_window": steps[:2]}})["length"]
    assert found["seconds_per_byte"] == pytest.approx([2e-6, 2.4e-6, 2e-6])
    assert (found["flatness"], found["own_window_flatness"]) == (pytest.approx(1.2), pytest.approx(1.2))
    assert found["memory_fit"] == {
        "slope": pytest.approx(1000),
        "intercept": pytest.approx(5000),
        "largest_error": pytest.approx(0, abs=1e-9),
    }
