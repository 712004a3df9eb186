"""The folder of a run: nothing of anybody else's is replaced, and one process at a time works in it."""

import dataclasses
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import Listener, losses, make_model, run_config, run_table, to_toml, weights

from hnet_lm import checkpoint
from hnet_lm.errors import ConfigError, UserError
from hnet_lm.training import beginning, run_folder
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import TrainingError
from hnet_lm.training.loop import train
from hnet_lm.training.run import build
from hnet_lm.training.run_folder import RunFolder


def contents(folder: Path) -> dict[str, tuple[bytes, int]]:
    """All files with what they hold and when they were changed; folders with when a name in them changed."""
    found = {".": (b"", folder.stat().st_mtime_ns)}
    for path in folder.rglob("*"):
        found[str(path.relative_to(folder))] = (path.read_bytes() if path.is_file() else b"", path.lstat().st_mtime_ns)
    return found


def somebodys_model(folder: Path) -> None:
    checkpoint.save(make_model(1, seed=7), folder)


def only_a_config(folder: Path) -> None:
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "another"}')


def only_weights(folder: Path) -> None:
    somebodys_model(folder)
    (folder / "config.json").unlink()


def a_broken_link(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.safetensors").symlink_to("gone")


def other_metrics(folder: Path) -> None:
    folder.mkdir()
    (folder / "metrics.jsonl").write_text('{"step": 1, "accuracy": 0.5}\n')


def another_record(folder: Path) -> None:
    folder.mkdir()
    (folder / "run.json").write_text('{"kind": "of another program"}')


def a_model_among_other_checkpoints(folder: Path) -> None:
    somebodys_model(folder)
    (folder / "checkpoints" / "checkpoint-500").mkdir(parents=True)


def weights_of_a_run_alone(folder: Path) -> None:
    """What somebody leaves who removes the checkpoints to save room."""
    train(run_config(folder.parent, name=folder.name, run={"num_steps": 1}))
    shutil.rmtree(folder / "checkpoints")


@pytest.mark.parametrize(
    ("fill", "named"),
    [
        (somebodys_model, "config.json and model.safetensors"),
        (only_a_config, "config.json"),
        (only_weights, "model.safetensors"),
        (a_broken_link, "model.safetensors"),
        (other_metrics, "metrics.jsonl"),
        (another_record, "run.json"),
        (a_model_among_other_checkpoints, "config.json and model.safetensors"),
        (weights_of_a_run_alone, "config.json and model.safetensors"),
    ],
)
def test_a_folder_with_files_of_somebody_else_is_refused_and_left_alone(tmp_path: Path, fill: Any, named: str) -> None:
    folder = tmp_path / "mine"
    fill(folder)
    before = contents(folder)
    with pytest.raises(TrainingError) as caught:
        train(run_config(tmp_path, name="mine"))
    message = str(caught.value)
    assert message.startswith(str(folder))
    assert named in message
    assert "run.directory" in message
    assert "\n" not in message
    assert contents(folder) == before


def test_files_that_a_run_does_not_write_are_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "notes.txt").write_text("mine")
    train(run_config(tmp_path, run={"num_steps": 1}))
    assert (tmp_path / "run" / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("where", ["base", "base/checkpoints/step_00000001", "link"])
def test_the_model_it_starts_from_is_never_in_the_way(tmp_path: Path, where: str) -> None:
    if where == "base":
        somebodys_model(tmp_path / "base")
    else:
        train(run_config(tmp_path, name="base", run={"num_steps": 1}))
    (tmp_path / "link").symlink_to("base")
    before = contents(tmp_path / "base")
    model = {"config": "", "init_from": str(tmp_path / where)}
    with pytest.raises(ConfigError, match=r"model\.init_from: .* is in run\.directory, and the run would replace it"):
        train(run_config(tmp_path, name="base", model=model))
    assert contents(tmp_path / "base") == before


def test_another_tokenizer_is_not_replaced(tmp_path: Path) -> None:
    run = run_table(tmp_path)["run"]
    folder = Path(run["directory"])
    folder.mkdir()
    (folder / "tokenizer.json").write_text("one")
    (tmp_path / "other.json").write_text("two")
    config = run_config(tmp_path)
    live = build(config, Ranks(0, 1, torch.device("cpu")))
    data = dataclasses.replace(config.data, tokenizer=str(tmp_path / "other.json"))
    live.config = dataclasses.replace(config, data=data)
    with pytest.raises(TrainingError, match=r"tokenizer\.json: is another tokenizer than data\.tokenizer"):
        beginning.keep_tokenizer(live)
    assert (folder / "tokenizer.json").read_text() == "one"


WRONG: dict[str, dict[str, Any]] = {
    "training data": {"data": {"sources": [{"path": "no_such_file.jsonl"}]}},
    "training data of no text": {"data": {"sources": [{"path": "EMPTY"}]}},
    "validation data": {"validation": {"sources": [{"path": "no_such_file.jsonl"}]}},
    "the second source": {"validation": {"sources": [{"path": "sample:english"}, {"path": "no_such_file.jsonl"}]}},
    "validation data of no text": {"validation": {"sources": [{"path": "EMPTY"}]}},
    "model": {"model": {"config": "no_such_file.json"}},
    "targets": {"loss": {"target_ratios": [3.0, 3.0]}},
    "frozen parts": {"model": {"freeze": ["nothing.*"]}},
    "sample": {
        "validation": {"sources": [{"path": "sample:english"}], "sample_bytes": 4, "sample_prompt": "half \ud800"}
    },
}


@pytest.mark.parametrize("what", WRONG)
def test_a_start_that_is_refused_leaves_no_folder(tmp_path: Path, what: str) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    tables = json.loads(json.dumps(WRONG[what]).replace("EMPTY", str(tmp_path / "empty.jsonl")))
    listener = Listener()
    with pytest.raises((UserError, UnicodeEncodeError)):
        train(run_config(tmp_path, name="a/b/run", **tables), listener)
    assert not listener.has_started
    assert not (tmp_path / "a").exists()


def test_a_start_that_is_refused_leaves_a_run_as_it_is(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 1}))
    before = contents(tmp_path / "run")
    tables = {"run": {"num_steps": 2}, "validation": {"sources": [{"path": "no_such_file.jsonl"}]}}
    with pytest.raises(UserError):
        train(run_config(tmp_path, **tables), allow_changes=True)
    after = contents(tmp_path / "run")
    assert {name: data for name, (data, _) in after.items()} == {name: data for name, (data, _) in before.items()}


@pytest.mark.parametrize("in_its_place", ["run", "run/checkpoints"])
def test_a_file_in_the_place_of_a_folder(tmp_path: Path, in_its_place: str) -> None:
    file = tmp_path / in_its_place
    file.parent.mkdir(exist_ok=True)
    file.write_text("mine")
    with pytest.raises(TrainingError, match=r"run: is a file|checkpoints: cannot be written: Not a directory"):
        train(run_config(tmp_path))
    assert file.read_text() == "mine"
    assert sorted(path.name for path in tmp_path.rglob("*") if "run" in str(path.relative_to(tmp_path))) == (
        ["run"] if in_its_place == "run" else ["checkpoints", "run"]
    )


def test_a_second_run_in_the_folder_is_refused(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    refused: list[str] = []

    def start_another(step: int) -> None:
        if step == 3:
            with pytest.raises(TrainingError) as caught:
                train(config)
            refused.append(str(caught.value))

    train(config, Listener(start_another))
    (message,) = refused
    assert message.startswith(
        f"{tmp_path / 'run'}: a run is at work here, process {os.getpid()} on {platform.node()} since"
    )
    assert "\n" not in message
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


@pytest.mark.long
def test_of_two_commands_at_once_one_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "run.toml"
    file.write_text(to_toml(run_table(tmp_path, 0, run={"num_steps": 30})))
    command = [sys.executable, "-m", "hnet_lm", "train", str(file)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": environment}
    processes = [subprocess.Popen(command, **pipes) for _ in range(2)]
    said = {process.returncode: errors for process in processes for _, errors in [process.communicate(timeout=200)]}
    assert sorted(said) in ([0, 2], [0]), "one may have come when the other was done"
    if 2 in said:
        assert "a run is at work here" in said[2]
        assert said[2].count("\n") == 1
    assert list(losses(tmp_path / "run")) == list(range(1, 31))


def test_the_lock_of_a_killed_process_stops_nobody_and_its_end_is_told(tmp_path: Path) -> None:
    config = run_config(tmp_path)
    child = os.fork()
    if child == 0:
        train(config, Listener(lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == 3 else None))
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    listener = Listener()
    train(config, listener)
    (told,) = [message for message in listener.messages if "ended without a word" in message]
    assert told.startswith(f"process {child} on {platform.node()}, at work here since ")
    assert listener.started_at == 2
    listener = Listener()
    train(config, listener)
    assert not [message for message in listener.messages if "without a word" in message]
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    assert record["how"] == "without an error"
    assert record["ended"] >= record["since"] >= record["began"]


def test_a_process_on_another_host_is_warned_of(tmp_path: Path) -> None:
    """Where locks are local to a host, this is all that can be said."""
    train(run_config(tmp_path, run={"num_steps": 1}))
    file = tmp_path / "run" / "run.json"
    record = json.loads(file.read_text()) | {"host": "elsewhere"}
    del record["ended"]
    file.write_text(json.dumps(record))
    listener = Listener()
    train(run_config(tmp_path, run={"num_steps": 1}), listener)
    assert "on elsewhere" in listener.messages[0]
    assert "If it is still at work on its host, stop one of the two" in listener.messages[0]


def test_how_a_run_ended_is_written_down(tmp_path: Path) -> None:
    def fail(step: int) -> None:
        raise RuntimeError("of the terminal")

    with pytest.raises(RuntimeError):
        train(run_config(tmp_path), Listener(fail))
    assert json.loads((tmp_path / "run" / "run.json").read_text())["how"] == "RuntimeError: of the terminal"


def test_a_run_killed_before_its_first_checkpoint_begins_anew_and_says_so(tmp_path: Path) -> None:
    config = run_config(tmp_path, checkpoints={"every": 100})
    child = os.fork()
    if child == 0:
        train(config, Listener(lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == 3 else None))
        os._exit(1)
    os.waitpid(child, 0)
    listener = Listener()
    train(config, listener)
    assert "the run in this folder ended before its first checkpoint; it begins anew" in listener.messages
    assert list(losses(tmp_path / "run")) == [1, 2, 3, 4, 5, 6]


def test_a_copy_of_a_run_is_another_run_for_trackers(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 1}))
    shutil.copytree(tmp_path / "run", tmp_path / "copy")
    ids = []
    for name in ("run", "run", "copy"):
        with RunFolder(tmp_path / name) as folder:
            ids.append(folder.run_id)
    assert ids[0] == ids[1]
    assert ids[0].startswith("run-")
    assert ids[2].startswith("copy-")
    assert ids[2].removeprefix("copy-") != ids[0].removeprefix("run-")


def test_a_home_directory_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    state = train(run_config(tmp_path, run={"num_steps": 1, "directory": "~/runs/a"}))
    assert state.step == 1
    assert weights(tmp_path / "runs" / "a")


def test_a_folder_that_cannot_be_locked_for_a_moment_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process locks before it writes who it is; whoever comes in between does not wait for ever to be told."""
    monkeypatch.setattr(run_folder, "PATIENCE", 0.1)
    with RunFolder(tmp_path / "run"):
        (tmp_path / "run" / "run.json").unlink()
        start = time.monotonic()
        with (
            pytest.raises(TrainingError, match="a run is at work here, a process; stop it or wait"),
            RunFolder(tmp_path / "run"),
        ):
            pass
        assert time.monotonic() - start < 5
