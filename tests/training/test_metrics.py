"""`metrics.jsonl` holds each step once whatever happened, and trackers get what it holds."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import Listener, run_config, updates

from hnet_lm.errors import UserError
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import MetricsLog, read_metrics, tracker_module

DOCS = Path(__file__).parents[2] / "docs" / "metrics.md"


class Recording:
    """A tracker that keeps what it is given."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.closed = False

    def log(self, record: dict[str, Any]) -> None:
        self.records.append(record)

    def close(self) -> None:
        self.closed = True


def test_records_in_order_and_each_at_once(tmp_path: Path) -> None:
    path, tracker = tmp_path / "metrics.jsonl", Recording()
    log = MetricsLog(path, [tracker])
    for step in range(3):
        log.log({"step": step, "loss": 1.5 + step})
        assert read_metrics(path)[-1] == {"step": step, "loss": 1.5 + step}, "not flushed"
    log.close()
    assert tracker.closed
    assert tracker.records == read_metrics(path)


def test_what_came_after_the_checkpoint_is_dropped(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (1, 2, 2, 3, 4)) + '{"step": 5, "lo')
    log = MetricsLog(path, keep_until=2)
    log.log({"step": 3})
    log.close()
    assert [record["step"] for record in read_metrics(path)] == [1, 2, 2, 3]
    assert [entry.name for entry in tmp_path.iterdir()] == ["metrics.jsonl"]


def test_half_a_last_line_is_no_record(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2')
    assert read_metrics(path) == [{"step": 1}]
    assert read_metrics(tmp_path / "none.jsonl") == []


def test_what_is_not_finite_is_null(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    log.log({"step": 1, "loss": float("nan"), "a": float("inf"), "b": 0.5, "skipped": True})
    log.close()
    assert path.read_text() == '{"step": 1, "loss": null, "a": null, "b": 0.5, "skipped": true}\n'


def test_tensorboard_gets_real_events(tmp_path: Path) -> None:
    validation = {
        "sources": [{"path": str(tmp_path / "corpus.jsonl")}],
        "every": 100,
        "max_bytes": 200,
        "sample_bytes": 4,
        "sample_prompt": "ab",
    }
    train(run_config(tmp_path, logging={"trackers": ["tensorboard"]}, validation=validation))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    events.Reload()
    records = updates(tmp_path / "run")
    numbers = {key for key, value in records[0].items() if isinstance(value, int | float)} - {"step"}
    assert numbers | {"validation/bits_per_byte", "validation/num_bytes"} == set(events.Tags()["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [1, 2, 3, 4, 5, 6]
    found = [event.value for event in events.Scalars("loss")]
    assert found == pytest.approx([record["loss"] for record in records], rel=1e-6)
    assert "sample/text_summary" in events.Tags()["tensors"]


@pytest.mark.parametrize(
    ("name", "package", "extra"),
    [("tensorboard", "tensorboard", "track"), ("wandb", "wandb", "wandb"), ("trackio", "trackio", "trackio")],
)
def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, name: str, package: str, extra: str) -> None:
    class NotInstalled:
        def find_spec(self, fullname: str, *_: object) -> None:
            if fullname.partition(".")[0] == package:
                raise ModuleNotFoundError(f"No module named {package!r}", name=package)

    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    for module in ("torch.utils.tensorboard", f"hnet_lm.training.trackers.{name}"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(sys, "meta_path", [NotInstalled(), *sys.meta_path])
    importlib.invalidate_caches()
    with pytest.raises(UserError) as caught:
        tracker_module(name)
    assert str(caught.value) == (
        f"logging.trackers {name!r} needs the package {package}: pip install 'hnet-lm[{extra}]'"
    )


def test_the_documented_keys_are_those_a_run_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/metrics.md lists every key with its unit and no other."""
    monkeypatch.setattr("hnet_lm.training.health.PATIENCE", 1)
    validation = {
        "sources": [{"path": str(tmp_path / "corpus.jsonl")}],
        "max_bytes": 200,
        "sample_bytes": 4,
        "sample_prompt": "ab",
    }
    config = run_config(tmp_path, 2, run={"num_steps": 2}, loss={"target_ratios": [40.0, 40.0]}, validation=validation)
    train(config, Listener())
    written = {key for record in read_metrics(tmp_path / "run" / "metrics.jsonl") for key in record}
    rows = [line.split("|")[1:-1] for line in DOCS.read_text().splitlines() if line.startswith("| `")]
    documented = {cell.strip().strip("`"): unit.strip() for cell, unit, _ in rows}
    assert len(documented) == len(rows)
    assert {key.replace("stage1/", "stage0/").replace("stage0/", "stageS/") for key in written} == set(documented)
    assert all(documented.values()), "a key without a unit"
