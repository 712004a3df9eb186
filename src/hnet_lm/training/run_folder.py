"""The folder of a run: one process at a time works in it, and nothing that another program wrote is replaced.

    run.lock    locked by the process that is at work; the system releases it however that process ends
    run.json    which process that is, on which host, since when, and how it ended; no ending: it was killed

The lock is `flock`. It holds between the hosts of a shared filesystem where that filesystem carries it: NFS since
Linux 2.6.12 (unless mounted with `nolock` or `local_lock`), Lustre with `-o flock`, CephFS, GPFS. Where a filesystem
has no `flock` at all, filelock falls back to a file that names host and process. Where locks are local to a host, a
second host is not refused, but it says that the process in `run.json` has not ended.
"""

import contextlib
import hashlib
import json
import os
import platform
import shutil
import time
from collections.abc import Iterable
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from hnet_lm import checkpoint
from hnet_lm.training.errors import CannotWrite, TrainingError

LOCK, RECORD, METRICS, CHECKPOINTS = "run.lock", "run.json", "metrics.jsonl", "checkpoints"
REPORT, FIGURE, ADAPTER = "report.md", "loss.png", "adapter"
WRITTEN = (METRICS, REPORT, FIGURE)
"""What a run writes beside its model."""
PATIENCE = 1.0  # seconds
STEP_FOLDERS = "step_[0-9][0-9][0-9][0-9][0-9][0-9][0-9][0-9]"


class RunFolder:
    """Within the `with` block this process alone works in the folder.

    Until `begin` is called nothing has happened: an error leaves the folder as it was, and none where there was none.
    """

    def __init__(self, path: Path, written: Iterable[str] = WRITTEN):
        """`written`: what the run writes there beside its model."""
        self.path = path
        self._written = tuple(written)
        self._lock = FileLock(path / LOCK)
        self._made: list[Path] = []
        self._has_begun = False
        self._previous: dict[str, Any] | None = None
        self._record: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Raises TrainingError where another run is at work, or where the folder holds files of somebody else."""
        check_files_are_ours(self.path, self._written)
        self._had_lock_file = (self.path / LOCK).exists()
        try:
            self._made = checkpoint.make_folders(self.path)
            self._lock.acquire(blocking=False)
        except Timeout:
            raise TrainingError(f"{self.path}: {self._who_is_at_work()}") from None
        except OSError as error:
            checkpoint.remove_empty(self._made)
            raise CannotWrite.file(self.path, error) from error
        try:
            check_files_are_ours(self.path, self._written)
            self._previous = _read_record(self.path)
            now = _now()
            began = (self._previous or {}).get("began", now)
            self._record = {"began": began, "process": os.getpid(), "host": platform.node(), "since": now}
            self._write(self._record)
            self._made += self._try_to_write(self.path / CHECKPOINTS)
        except BaseException:
            self._take_back()
            raise
        return self

    def begin(self) -> None:
        """From now on the folder is the run's, and stays whatever happens."""
        self._has_begun = True

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        if not self._has_begun:
            self._take_back()
            return
        how = "without an error" if kind is None else f"{kind.__name__}: {error}"
        try:
            self._write({**self._record, "ended": _now(), "how": how})
        except CannotWrite:
            if error is None:
                raise
        finally:
            self._lock.release()

    @property
    def run_id(self) -> str:
        """Names the run for trackers: the same after a resume, another one for a copy of the folder."""
        key = f"{self.path.resolve()} {self._record['began']}"
        return f"{self.path.resolve().name}-{hashlib.sha256(key.encode()).hexdigest()[:10]}"

    def history(self) -> list[str]:
        """Lines about what the process before this one left."""
        before = self._previous
        if before is None or "ended" in before:
            return []
        who = f"process {before['process']} on {before['host']}, at work here since {before['since']}"
        if before["host"] == platform.node():
            return [f"{who}, ended without a word: it was killed, or the machine stopped"]
        return [f"{who}, has not said that it ended. If it is still at work on its host, stop one of the two"]

    def _who_is_at_work(self) -> str:
        record = _read_record(self.path)
        give_up = time.monotonic() + PATIENCE
        while (record is None or "ended" in record) and time.monotonic() < give_up:  # it locks before it writes this
            time.sleep(0.02)
            record = _read_record(self.path)
        who, since = "a process", ""
        if record is not None and "ended" not in record:
            who, since = f"process {record['process']} on {record['host']}", f" since {record['since']}"
        return f"a run is at work here, {who}{since}; stop it or wait for its end, or take another run.directory"

    def _try_to_write(self, folder: Path) -> list[Path]:
        """Make the folder of the checkpoints and write a file there; returns the folders made."""
        made: list[Path] = []
        probe = folder / f".{platform.node()}.{os.getpid()}.try"
        try:
            made = checkpoint.make_folders(folder)
            probe.write_bytes(b"can this be written?")
            checkpoint.flush(probe)
            probe.unlink()
        except OSError as error:
            checkpoint.remove_empty(made)
            raise CannotWrite.file(folder, error) from error
        return made

    def _take_back(self) -> None:
        """Leave the folder as it was found, as far as it can be written at all."""
        with contextlib.suppress(OSError, CannotWrite):
            if self._previous is not None:
                self._write(self._previous)
            elif self._record:
                (self.path / RECORD).unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            if not self._had_lock_file:
                (self.path / LOCK).unlink(missing_ok=True)
        if self.path in self._made:  # and nobody else could write into it
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()
        checkpoint.remove_empty(self._made)

    def _write(self, record: dict[str, Any]) -> None:
        replace_file(self.path / RECORD, (json.dumps(record, indent=1) + "\n").encode())


def check_files_are_ours(path: Path, names: Iterable[str] = ()) -> None:
    """Raises TrainingError where a run that begins in this folder would replace what no run wrote.

    A run publishes its model after its first checkpoint. So a model without checkpoints is somebody else's, or all that
    is left of a run; either way it is not replaced. `names` are further files, which a run writes from its start on.
    """
    if path.exists() and not path.is_dir():
        raise TrainingError(f"{path}: is a file; run.directory must name a folder")
    if has_checkpoints(path):
        return
    names = checkpoint.FILES if _read_record(path) is not None else (*checkpoint.FILES, *names)
    found = [name for name in names if os.path.lexists(path / name)]
    if found:
        raise TrainingError(
            f"{path}: holds {' and '.join(found)}, and no checkpoints of a run that wrote this; a run that begins here "
            "would replace it. Take another run.directory, or move these files away"
        )


def has_checkpoints(path: Path) -> bool:
    """Whether a run has written a checkpoint into this folder."""
    return any((path / CHECKPOINTS).glob(STEP_FOLDERS))


def has_ended(path: Path) -> bool:
    """Whether the process that was last at work in a folder of this host has ended, as far as can be known."""
    record = _read_record(path)
    if record is None or "ended" in record:
        return True
    if record["host"] != platform.node() or os.name == "nt":  # where signal 0 is no question
        return False
    try:
        os.kill(record["process"], 0)
    except ProcessLookupError:
        return True
    except OSError:  # it is somebody else's
        return False
    return False


def replace_file(path: Path, data: bytes) -> None:
    """Write a file whole or not at all: next to its place, flushed, and renamed. Raises CannotWrite."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data)
        checkpoint.flush(partial)
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise CannotWrite.file(path, error) from error


def _read_record(path: Path) -> dict[str, Any] | None:
    """What `run.json` says; None where there is none. Raises TrainingError for a file of that name that is not ours."""
    file = path / RECORD
    if not os.path.lexists(file):
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"{file}: cannot be read: {checkpoint.reason(error)}") from error
    except ValueError:
        record = None
    if not isinstance(record, dict) or not record.keys() >= {"began", "process", "host", "since"}:
        raise TrainingError(f"{file}: is not the record of a run. Take another run.directory, or move this file away")
    return record


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="seconds")
