"""`metrics.jsonl` holds each step once whatever happened, and trackers get what it holds."""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from training_runs import Listener, make_batch, make_model, run_config, updates

from hnet_lm.errors import UserError
from hnet_lm.losses import RatioLoss
from hnet_lm.model.flops import forward_flops_per_byte
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.gpus import known_gpu
from hnet_lm.training.loop import train
from hnet_lm.training.metrics import MetricsLog, Tracked, open_tracker, read_metrics, tracker_module
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.records import Recorder
from hnet_lm.training.step import update

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


def test_the_curves_of_a_killed_process_are_hidden(tmp_path: Path) -> None:
    """It logged steps beyond its checkpoint, which the next process logs again."""
    for steps, next_step in ((range(1, 6), 1), (range(4, 8), 4)):
        tracker = open_tracker("tensorboard", Tracked("project", tmp_path, "run-1", {}, next_step))
        for step in steps:
            tracker.log({"step": step, "loss": float(10 * next_step + step)})
        tracker.close()
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        *((step, 10.0 + step) for step in (1, 2, 3)),
        *((step, 40.0 + step) for step in (4, 5, 6, 7)),
    ]


class Service:
    """What wandb and trackio offer, recorded: neither runs without an account or a server of its own."""

    def __init__(self) -> None:
        self.started: list[dict[str, Any]] = []
        self.logged: list[tuple[int, Any]] = []
        self.num_finished = 0

    def init(self, **options: Any) -> "Service":
        self.started.append(options)
        return self

    def log(self, record: dict[str, Any], step: int) -> None:
        self.logged.append((step, record.get("loss")))

    def finish(self) -> None:
        self.num_finished += 1


@pytest.mark.parametrize(("name", "key"), [("wandb", "id"), ("trackio", "name")])
def test_a_resumed_run_goes_on_in_the_same_curve(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, key: str
) -> None:
    service = Service()
    monkeypatch.setitem(sys.modules, name, service)
    monkeypatch.delitem(sys.modules, f"hnet_lm.training.trackers.{name}", raising=False)
    for num_steps in (2, 4):
        config = run_config(tmp_path, run={"num_steps": num_steps}, logging={"trackers": [name], "project": "mine"})
        train(config, allow_changes=True)
    first, second = service.started
    assert first[key] == second[key]
    assert first[key].startswith("run-")
    assert {first["resume"], second["resume"]} == {"allow"}
    assert first["project"] == "mine"
    assert service.num_finished == 2
    assert service.logged == [(record["step"], record["loss"]) for record in updates(tmp_path / "run")]
    monkeypatch.delitem(sys.modules, f"hnet_lm.training.trackers.{name}")


class Failing(Recording):
    """A service that goes away."""

    def log(self, record: dict[str, Any]) -> None:
        super().log(record)
        if record["step"] == 2:
            raise ConnectionError("gone\nand more lines")


def test_a_tracker_that_fails_is_left_out_and_ends_nothing(tmp_path: Path) -> None:
    failing, other, said = Failing(), Recording(), []
    with MetricsLog(tmp_path / "metrics.jsonl", [failing, other], say=said.append) as log:
        for step in range(1, 5):
            log.log({"step": step})
    assert [record["step"] for record in failing.records] == [1, 2]
    assert [record["step"] for record in other.records] == [1, 2, 3, 4]
    assert said == [f"{__name__} fails and gets no more records: gone"]
    assert other.closed
    assert not failing.closed


def test_a_tracker_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "tensorboard").write_text("a file in its place")
    with pytest.raises(TrainingError, match=r"logging\.trackers 'tensorboard': cannot be opened: ") as caught:
        open_tracker("tensorboard", Tracked("project", tmp_path, "run-1", {}, 1))
    assert "\n" not in str(caught.value)


def test_damage_in_the_middle_costs_no_later_record(tmp_path: Path) -> None:
    """Lines are kept as they are, and those that are no records of a step too."""
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1, "loss": 1.50}\n\0\0\0\n{"note": "by hand"}\n{"step": 2}\n\xff\n')
    assert read_metrics(path) == [{"step": 1, "loss": 1.5}, {"step": 2}]
    MetricsLog(path, keep_until=1).close()
    assert path.read_text() == '{"step": 1, "loss": 1.50}\n{"note": "by hand"}\n'


class Clock:
    """`time.monotonic` that goes when it is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 100.0
        monkeypatch.setattr("hnet_lm.training.records.monotonic", lambda: self.now)


def test_speed_and_utilisation_are_those_of_training_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """100 bytes in 2 seconds, with 3 seconds of something else between them; the same again."""
    clock, peak = Clock(monkeypatch), 1e9
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: peak)
    model, batch, alone = make_model(1), make_batch([40]), Ranks(0, 1, torch.device("cpu"))
    optimizer = build_optimizer(model, OptimizerConfig(), [3.0])
    result = update(model, optimizer, [batch], [RatioLoss((3.0,), False, weight=0.03)], 1.0, torch.float32, alone)
    recorder = Recorder(model.config, 48, torch.float32, alone)
    for step in (1, 2):
        recorder.count(60)
        clock.now += 1.5
        with recorder.not_training():
            clock.now += 3.0
        recorder.count(40)
        clock.now += 0.5
        record, _ = recorder.record(result, step, 100 * step, 1e-3)
        assert record["bytes_per_second"] == pytest.approx(50.0)
        bytes_per_chunk = [record["stage0/bytes_per_chunk"]]
        forward = sum(forward_flops_per_byte(model.config, bytes_per_chunk, 48).values())
        assert record["matmul_utilization"] == pytest.approx(3 * forward * 50.0 / peak)
        assert "mfu" not in record, "no data sheet tells of this machine"


def test_mfu_is_of_the_data_sheet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the share of what a product was measured at, which is lower than what is printed."""
    clock = Clock(monkeypatch)
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: 1e9)
    monkeypatch.setattr("hnet_lm.training.records.data_sheet_peak", lambda *_: 4e9)
    model, alone = make_model(1), Ranks(0, 1, torch.device("cpu"))
    optimizer = build_optimizer(model, OptimizerConfig(), [3.0])
    result = update(model, optimizer, [make_batch([40])], [RatioLoss((3.0,))], 1.0, torch.float32, alone)
    recorder = Recorder(model.config, 48, torch.float32, alone)
    recorder.count(100)
    clock.now += 2.0
    record, _ = recorder.record(result, 1, 100, 1e-3)
    assert record["mfu"] == pytest.approx(record["matmul_utilization"] / 4)


@pytest.mark.parametrize(
    ("device_name", "gpu", "bfloat16"),
    [
        ("NVIDIA H100 80GB HBM3", "h100", 989e12),
        ("NVIDIA H100 PCIe", "h100-pcie", 756e12),
        ("NVIDIA A100-SXM4-40GB", "a100-40", 312e12),
        ("NVIDIA GeForce RTX 4090", "rtx4090", 165e12),
        ("Tesla T4", None, None),
    ],
)
def test_known_gpus(device_name: str, gpu: str | None, bfloat16: float | None) -> None:
    found = known_gpu(device_name)
    assert (None if found is None else found.name) == gpu
    assert (None if found is None else found.peak(torch.bfloat16)) == bfloat16


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
    written |= {"mfu"}  # of GPUs whose data sheet is known
    written |= {"superposition/loss", "superposition/bag_size"}  # of a run that begins so (test_superposition)
    assert {key.replace("stage1/", "stage0/").replace("stage0/", "stageS/") for key in written} == set(documented)
    assert all(documented.values()), "a key without a unit"
