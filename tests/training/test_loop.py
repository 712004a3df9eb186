"""The loop: stops and resumes, updates that are not finite, what is written, and that a run can be repeated."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Listener, losses, run_config, run_table, to_toml, updates, weights

from hnet_lm.errors import DataError
from hnet_lm.training import loop
from hnet_lm.training.loop import TrainingError, train
from hnet_lm.training.metrics import read_metrics


def same_weights(left: Path, right: Path) -> bool:
    found, wanted = weights(left), weights(right)
    return all(found[name].equal(weight) for name, weight in wanted.items())


def test_a_run_can_be_repeated(tmp_path: Path) -> None:
    for name in ("first", "second"):
        train(run_config(tmp_path, 2, name=name))
    assert losses(tmp_path / "first") == losses(tmp_path / "second")
    assert same_weights(tmp_path / "first", tmp_path / "second")
    train(run_config(tmp_path, 2, name="other", run={"seed": 1}))
    assert losses(tmp_path / "first") != losses(tmp_path / "other")


def test_training_learns(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 60}, optimizer={"lr": 5e-3}, checkpoints={"every": 100}))
    found = losses(tmp_path / "run")
    assert found[1] > 5.4
    assert found[60] < 3.0


def test_bytes_are_counted_over_the_run(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"accumulation": 2}, logging={"every": 4}))
    first, last = updates(tmp_path / "run")
    assert (first["step"], last["step"]) == (4, 6), "every fourth, and the last"
    assert 4 * 2 * 96 * 0.9 < first["bytes_seen"] <= 4 * 2 * 96
    assert first["bytes_seen"] < last["bytes_seen"] <= 6 * 2 * 96


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_and_the_same_call_goes_on(tmp_path: Path, number: int) -> None:
    train(run_config(tmp_path, name="unbroken"))
    config = run_config(tmp_path, name="stopped", checkpoints={"every": 100})
    before = signal.getsignal(number)
    listener = Listener(lambda step: os.kill(os.getpid(), number) if step == 2 else None)
    state = train(config, listener)
    assert state.step == 3, "the update that the signal came before is finished"
    assert listener.closed
    assert listener.messages[-1] == "stopped and saved at step 3; the same command goes on from there"
    assert signal.getsignal(number) == before

    listener = Listener()
    assert train(config, listener).step == 6
    assert listener.started_at == 3
    assert losses(tmp_path / "stopped") == losses(tmp_path / "unbroken")
    assert same_weights(tmp_path / "stopped", tmp_path / "unbroken")


def test_a_second_ctrl_c_stops_at_once(tmp_path: Path) -> None:
    config = run_config(tmp_path, checkpoints={"every": 100})

    def press_twice(step: int) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)

    with pytest.raises(KeyboardInterrupt):
        train(config, Listener(press_twice))
    assert list(losses(tmp_path / "run")) == [1]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())


def test_the_command_stops_cleanly_and_resumes(tmp_path: Path) -> None:
    table = run_table(tmp_path, run={"num_steps": 4000}, checkpoints={"every": 100_000})
    file = tmp_path / "run.toml"
    file.write_text(to_toml(table))
    command = [sys.executable, "-m", "hnet_lm", "train", str(file), "--optimizer.lr", "1e-3"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment)
    metrics = tmp_path / "run" / "metrics.jsonl"
    while not (metrics.exists() and metrics.read_text().count("\n") >= 3):
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 0, output
    last = max(losses(tmp_path / "run"))
    assert f"stopped and saved at step {last}" in output
    assert (tmp_path / "run" / "checkpoints" / f"step_{last:08d}" / "manifest.json").exists()

    refused = subprocess.run(command[:-2], capture_output=True, text=True, env=environment, timeout=100)
    assert refused.returncode == 2
    assert "(optimizer.lr: 0.001 -> 0.002)" in refused.stderr
    assert refused.stderr.count("\n") == 1


@pytest.fixture
def not_finite_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[Container[int]], None]:
    """Make the embeddings NaN in the updates of these numbers, counted over all that the test runs."""

    def inject(numbers: Container[int]) -> None:
        count = 0
        plain = loop.update

        def update(network: torch.nn.Module, *arguments: Any) -> Any:
            nonlocal count
            count += 1
            factor = float("nan") if count in numbers else 1.0
            hook = network.embedding.register_forward_hook(lambda module, inputs, out: out * factor)
            try:
                return plain(network, *arguments)
            finally:
                hook.remove()

        monkeypatch.setattr(loop, "update", update)

    return inject


def test_an_update_that_is_not_finite_is_skipped_and_counted(
    tmp_path: Path, not_finite_at: Callable[[Container[int]], None]
) -> None:
    not_finite_at({3, 5})
    listener = Listener()
    state = train(run_config(tmp_path, logging={"every": 4}, checkpoints={"every": 1, "keep": 10}), listener)
    assert (state.step, state.skipped_steps, state.skipped_in_a_row) == (6, 2, 0)
    checkpoints = tmp_path / "run" / "checkpoints"
    assert same_weights(checkpoints / "step_00000003", checkpoints / "step_00000002")
    assert not same_weights(checkpoints / "step_00000004", checkpoints / "step_00000003")
    assert [message for message in listener.messages if message.startswith("step ")] == [
        f"step {step}: loss or gradient is not finite; the update is skipped" for step in (3, 5)
    ]
    records = {record["step"]: record for record in updates(tmp_path / "run")}
    assert list(records) == [3, 4, 5, 6], "skipped ones are always written"
    assert [record["skipped"] for record in records.values()] == [True, False, True, False]
    assert records[3]["loss"] is None
    assert records[3]["grad_norm"] is None
    assert all("NaN" not in line for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines())


def test_too_many_in_a_row_stop_the_run(tmp_path: Path, not_finite_at: Callable[[Container[int]], None]) -> None:
    not_finite_at({4, 5, 6})
    config = run_config(tmp_path, run={"num_steps": 8, "max_skipped_in_a_row": 3}, checkpoints={"every": 3})
    with pytest.raises(TrainingError) as caught:
        train(config)
    message = str(caught.value)
    assert message.startswith("3 updates in a row were not finite, up to step 6")
    assert f"the last good checkpoint is {tmp_path / 'run' / 'checkpoints' / 'step_00000003'}" in message
    assert "\n" not in message

    state = train(config)
    assert (state.step, state.skipped_steps) == (8, 0)
    assert list(losses(tmp_path / "run")) == list(range(1, 9))


def test_without_a_checkpoint_the_message_says_so(
    tmp_path: Path, not_finite_at: Callable[[Container[int]], None]
) -> None:
    not_finite_at(range(100))
    with pytest.raises(TrainingError, match=r"1 updates in a row were not finite, up to step 1; .* is none yet"):
        train(run_config(tmp_path, run={"max_skipped_in_a_row": 1}))


def test_a_run_whose_first_updates_are_skipped_resumes(
    tmp_path: Path, not_finite_at: Callable[[Container[int]], None]
) -> None:
    """Its checkpoint has no moments at all."""
    not_finite_at({1, 2, 7, 8})
    stop = Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == 1 else None)
    assert train(run_config(tmp_path, name="stopped"), stop).step == 2
    train(run_config(tmp_path, name="stopped"))
    train(run_config(tmp_path, name="unbroken"))
    assert losses(tmp_path / "stopped") == losses(tmp_path / "unbroken")
    assert same_weights(tmp_path / "stopped", tmp_path / "unbroken")


def test_validation_and_sample_are_written(tmp_path: Path) -> None:
    validation = {
        "sources": [{"path": str(tmp_path / "corpus.jsonl")}],
        "every": 4,
        "max_bytes": 500,
        "sample_prompt": "abc",
        "sample_bytes": 5,
    }
    listener = Listener()
    train(run_config(tmp_path, validation=validation), listener)
    found = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "loss" not in record]
    assert [record["step"] for record in found] == [4, 6]
    assert all(record["validation/num_bytes"] == 500 for record in found)
    assert all(record["sample"].startswith("abc") for record in found)
    assert found[0]["sample"] in listener.messages


def test_a_collapsing_router_is_reported_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A target that the model is far from, and no patience."""
    monkeypatch.setattr("hnet_lm.training.health.PATIENCE", 2)
    listener = Listener()
    train(run_config(tmp_path, run={"num_steps": 3}, loss={"target_ratios": [40.0]}), listener)
    (message,) = [message for message in listener.messages if message.startswith("router health")]
    assert message.startswith("router health, stage 0: chunks of ")
    assert "far from the target of 40" in message
    (record,) = [record for record in read_metrics(tmp_path / "run" / "metrics.jsonl") if "warning" in record]
    assert record["step"] == 2
    assert f"router health, {record['warning']}" == message


@pytest.mark.parametrize("num_workers", [0, 1])
def test_damaged_data_stops_the_run_in_one_line(tmp_path: Path, num_workers: int) -> None:
    config = run_config(tmp_path, data={"num_workers": num_workers})
    (tmp_path / "corpus.jsonl").write_text('{"text": "a"}\nnot JSON\n')
    with pytest.raises(DataError, match=r"corpus\.jsonl:2: not JSON"):
        train(config)
