"""Whatever fails while a run writes: its folder is as before or as after, and the next start goes on from there."""

import dataclasses
import json
import os
import resource
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from failing_files import FAILURES, FailingFiles, reason_of
from torch import Tensor
from training_runs import Listener, losses, run_table, weights

from hnet_lm.config import HNetConfig
from hnet_lm.tables import from_table
from hnet_lm.training.checkpoints import CheckpointStore
from hnet_lm.training.config import RunConfig
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.errors import CannotWrite, TrainingError
from hnet_lm.training.loop import train
from hnet_lm.training.resuming import resume
from hnet_lm.training.run import Run, build, save
from hnet_lm.training.step import StepResult

ALONE = Ranks(0, 1, torch.device("cpu"))
TINIEST = {
    "arch_layout": ["t1"],
    "d_model": [8],
    "d_intermediate": [8],
    "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 16},
    "attn_cfg": {"num_heads": [1], "rotary_emb_dim": [4], "window_size": [-1]},
}
ERRORS = [failure for failure in FAILURES if failure != "kill"]
linux_only = pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="the paths of open files are asked of Linux")
pytestmark = linux_only


@pytest.fixture(autouse=True)
def _no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    """The products that utilisation is measured with would take most of the time."""
    monkeypatch.setattr("hnet_lm.training.records.matmul_peak", lambda *_: 1e9)


def tiny_run(folder: Path, name: str, num_steps: int) -> RunConfig:
    """A run of the tiniest model, with a checkpoint after every step and a validation after the last.

    Only the embedding is trained: fewer moments are fewer writes.
    """
    model = folder / "tiniest.json"
    table = run_table(
        folder,
        0,
        name,
        run={"num_steps": num_steps},
        model={"config": str(model), "freeze": ["network.*", "lm_head.*"]},
        data={"tokens_per_batch": 16, "max_length": 16, "shuffle_bytes": 0},
        checkpoints={"every": 1},
        validation={"sources": [{"path": str(folder / "corpus.jsonl")}], "max_bytes": 20, "sample_bytes": 0},
    )
    model.write_text(json.dumps(HNetConfig.from_dict(TINIEST).to_dict()))
    return from_table(RunConfig, table)


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run of three steps, `before`, and the same run of four, `after`."""
    folder = tmp_path_factory.mktemp("disk")
    for name, num_steps in (("before", 3), ("after", 4)):
        train(tiny_run(folder, name, num_steps), allow_changes=True)
    return folder


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return all(found[name].equal(weight) for name, weight in wanted.items())


def about_to_save(folder: Path, run: Path) -> Run:
    """A copy of the run of three steps, one update further, and about to save that."""
    shutil.copytree(folder / "before", run)
    live = build(tiny_run(folder, str(run), 4), ALONE)
    resume(live, Listener(), allow_changes=True)
    with torch.no_grad():
        for parameter in live.model.parameters():
            parameter.add_(1.0)
    live.advance(StepResult(torch.zeros(2), (), torch.zeros(0), 1, 16, 1.0, True), 16)
    return live


def in_folder(live: Run, folder: Path) -> Run:
    """The same, in another copy of the folder."""
    loop = dataclasses.replace(live.config.run, directory=str(folder))
    store = CheckpointStore(folder / "checkpoints", ALONE, live.store.keep)
    return dataclasses.replace(live, config=dataclasses.replace(live.config, run=loop), store=store)


def assert_before_or_after(run: Path, old: dict[str, Tensor], new: dict[str, Tensor]) -> str:
    newest, damaged = CheckpointStore(run / "checkpoints", ALONE).newest()
    assert newest is not None
    assert damaged == []
    is_after = same(weights(newest), new)
    assert is_after or same(weights(newest), old)
    assert same(weights(run), new) or same(weights(run), old)
    return "after" if is_after else "before"


def attempts(before: Path, tmp_path: Path) -> Iterator[tuple[Run, dict[str, Tensor], dict[str, Tensor]]]:
    """Saves of one and the same step, each in a fresh copy of the folder."""
    live = about_to_save(before, tmp_path / "live")
    old, new = weights(before / "before"), {name: weight.detach() for name, weight in live.model.state_dict().items()}
    number = 0
    while True:
        number += 1
        copy = tmp_path / str(number)
        shutil.copytree(before / "before", copy)
        yield in_folder(live, copy), old, new
        shutil.rmtree(copy)


@pytest.mark.parametrize("failure", ERRORS)
def test_a_save_that_fails_at_any_call(before: Path, tmp_path: Path, failure: str) -> None:
    found = []
    for number, (live, old, new) in enumerate(attempts(before, tmp_path), start=1):
        message = None
        with FailingFiles(live.directory, number, failure) as disk:
            try:
                save(live)
            except CannotWrite as error:
                message = str(error)
        state = assert_before_or_after(live.directory, old, new)
        if not disk.has_failed:
            assert (message, state) == (None, "after")
            break
        found.append(state)
        failed = disk.calls[number - 1]
        if message is None:  # of a removal that another one repeats; or the file was copied in another way
            assert state == "after", f"{failed} failed without a word"
            assert same(weights(live.directory), new), failed
        else:
            assert message.endswith(f": {reason_of(failure)}"), failed
            assert message.startswith(str(live.directory))
            assert "\n" not in message
            assert not list(live.directory.rglob("*.partial")), "what was written of it is still there"
        if number % 5 == 0:
            with FailingFiles(live.directory):
                save(live)
            assert assert_before_or_after(live.directory, old, new) == "after"
            assert same(weights(live.directory), new)
    assert len(found) > 40
    assert set(found) == {"before", "after"}


def test_a_save_that_is_killed_at_any_call(before: Path, tmp_path: Path) -> None:
    found = []
    for number, (live, old, new) in enumerate(attempts(before, tmp_path), start=1):
        child = os.fork()
        if child == 0:
            with FailingFiles(live.directory, number, "kill"):
                save(live)
            os._exit(0)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        state = assert_before_or_after(live.directory, old, new)
        if code == 0:
            break
        assert code == -signal.SIGKILL
        found.append(state)
        if number % 3 == 0:
            with FailingFiles(live.directory):
                save(live)
            assert assert_before_or_after(live.directory, old, new) == "after"
            assert same(weights(live.directory), new)
            hidden = {path.name for path in live.directory.rglob(".*")}
            assert hidden == {".metadata"}, "the next save leaves nothing of the killed one"
    assert len(found) > 40
    assert found == sorted(found, reverse=True), "before, up to the one rename"
    assert set(found) == {"before", "after"}


@pytest.mark.parametrize("most", [0, 10, 500, 2000, 4000])
def test_the_system_itself_cuts_files_off(before: Path, tmp_path: Path, most: int) -> None:
    """With the limit on the size of files every writer, those in C++ and Rust too, meets real short writes."""
    live, old, new = next(attempts(before, tmp_path))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, limits[1]))
    try:
        with pytest.raises(CannotWrite, match=r"cannot be written: File too large$"):
            save(live)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert assert_before_or_after(live.directory, old, new) == "before"
    assert not list(live.directory.rglob("*.partial"))
    save(live)
    assert assert_before_or_after(live.directory, old, new) == "after"


@pytest.mark.parametrize("failure", ERRORS)
def test_a_run_that_fails_outside_of_a_save(tmp_path: Path, failure: str) -> None:
    """Its start, its metrics, its end: refused as if nothing had been, or stopped with what was reached saved."""
    directory = tmp_path / "run"
    config = tiny_run(tmp_path, "run", 2)
    with FailingFiles(directory) as disk:
        train(config)
    outside = [i for i, call in enumerate(disk.calls, start=1) if "/.step_" not in call and "/step_" not in call]
    assert len(outside) > 30
    expected = weights(directory)
    wanted = losses(directory), {name: weight.clone() for name, weight in expected.items()}

    def is_whole() -> bool:
        return losses(directory) == wanted[0] and same(weights(directory), wanted[1])

    was_refused = was_saved = False
    for number in outside[ERRORS.index(failure) :: len(ERRORS)]:
        shutil.rmtree(directory, ignore_errors=True)
        message, listener = "", Listener()
        with FailingFiles(directory, number, failure) as disk:
            try:
                train(config, listener)
            except TrainingError as error:
                message = str(error)
        failed = disk.calls[number - 1]
        if not message:  # of a removal; or it was done in another way
            assert is_whole(), f"{failed} failed without a word"
            continue
        assert f": {reason_of(failure)}" in message, failed
        assert "\n" not in message
        if directory.exists():
            was_saved |= "from which the same command goes on" in message
        else:
            was_refused = True
        with FailingFiles(directory):
            train(config)
        assert is_whole(), failed
        assert {path.name for path in directory.rglob(".*")} == {".metadata"}, failed
    assert was_refused
    assert was_saved
