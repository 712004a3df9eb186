"""A disk that fails: the n-th thing a process does to files below a folder goes wrong, in one of five ways.

`ENOSPC`, `EIO` and `EROFS` raise what the system would raise. `short` writes a part of the bytes first and then raises
ENOSPC. `kill` ends the process there and then. Whatever comes after that goes well again.

Counted are: opening for writing, every write, every fsync, mkdir, rename, unlink and rmdir. Everything else is real:
real files in a real folder, and all of the library. What safetensors writes in Rust counts as one write. An fsync that
does not fail does nothing, which only a power cut could tell.
"""

import builtins
import errno
import io
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from safetensors import SafetensorError

from hnet_lm import checkpoint

FAILURES = ("ENOSPC", "EIO", "EROFS", "short", "kill")


def reason_of(failure: str) -> str:
    """What the message must say."""
    return os.strerror(errno.ENOSPC if failure == "short" else getattr(errno, failure))


class FailingFiles:
    """Within the block, call number `fail_at` (from 1; 0: none) to the files below `folder` fails."""

    def __init__(self, folder: Path, fail_at: int = 0, failure: str = "ENOSPC"):
        self.folder = str(folder)
        self.fail_at = fail_at
        self.failure = failure
        self.calls: list[str] = []

    @property
    def has_failed(self) -> bool:
        return 0 < self.fail_at <= len(self.calls)

    def __enter__(self) -> "FailingFiles":
        self._patches = [mock.patch.object(io, "open", self._open), mock.patch.object(builtins, "open", self._open)]
        self._patches += [mock.patch.object(checkpoint, "save_file", self._save_file)]
        self._patches += [
            mock.patch.object(os, "open", self._os_open),
            mock.patch.object(os, "sendfile", self._sendfile),
        ]
        for name in ("mkdir", "rename", "replace", "unlink", "rmdir"):
            self._patches.append(mock.patch.object(os, name, self._counted(name, getattr(os, name))))
        self._patches.append(mock.patch.object(os, "fsync", self._fsync))
        for patch in self._patches:
            patch.start()
        return self

    def __exit__(self, *_: object) -> None:
        for patch in self._patches:
            patch.stop()

    def count(self, what: str, path: Any, write_part: Callable[[], None] = lambda: None) -> None:
        """One call. If it is the one to fail, `write_part` may leave something behind first."""
        self.calls.append(f"{what} {path}")
        if len(self.calls) != self.fail_at:
            return
        if self.failure == "kill":
            write_part()
            os.kill(os.getpid(), signal.SIGKILL)
        if self.failure == "short":
            write_part()
        number = errno.ENOSPC if self.failure == "short" else getattr(errno, self.failure)
        raise OSError(number, os.strerror(number), str(path))

    def _is_watched(self, path: Any) -> bool:
        return os.fspath(path).startswith(self.folder)

    def _fsync(self, handle: int) -> None:
        self.count("fsync", os.readlink(f"/proc/self/fd/{handle}"))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any, *arguments: Any, dir_fd: int | None = None, **options: Any) -> Any:
            whole = path if dir_fd is None else os.path.join(os.readlink(f"/proc/self/fd/{dir_fd}"), path)
            if self._is_watched(whole):
                self.count(name, whole)
            return real(path, *arguments, **options) if dir_fd is None else real(path, *arguments, dir_fd=dir_fd)

        return call

    def _os_open(self, path: Any, flags: int, *arguments: Any, **options: Any) -> int:
        if flags & os.O_CREAT and self._is_watched(path):
            self.count("open", path)
        return REAL_OS_OPEN(path, flags, *arguments, **options)

    def _open(self, file: Any, mode: str = "r", buffering: int = -1, *arguments: Any, **options: Any) -> Any:
        if isinstance(file, int) or not set(mode) & set("wax+") or not self._is_watched(file):
            return REAL_OPEN(file, mode, buffering, *arguments, **options)
        self.count("open", file)
        raw = _FailingRaw(self, os.fspath(file), mode.replace("b", "").replace("t", ""))
        if buffering == 0:
            return raw
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *arguments, **options)

    def _sendfile(self, out: int, *arguments: Any) -> int:
        path = os.readlink(f"/proc/self/fd/{out}")
        if self._is_watched(path):
            self.count("sendfile", path, lambda: os.truncate(path, 10))
        return REAL_SENDFILE(out, *arguments)

    def _save_file(self, tensors: Any, path: Any, **options: Any) -> None:
        def write_part() -> None:
            REAL_SAVE_FILE(tensors, path, **options)
            os.truncate(path, os.path.getsize(path) // 2)

        try:
            self.count("write", path, write_part)
        except OSError as error:
            raise SafetensorError(f"I/O error: {error.strerror} (os error {error.errno})") from None
        REAL_SAVE_FILE(tensors, path, **options)


REAL_OPEN, REAL_OS_OPEN, REAL_SENDFILE, REAL_SAVE_FILE = io.open, os.open, os.sendfile, checkpoint.save_file


class _FailingRaw(io.FileIO):
    def __init__(self, disk: FailingFiles, path: str, mode: str):
        super().__init__(path, mode)
        self._disk = disk

    def write(self, data: Any, /) -> int:
        part = memoryview(data).cast("B")
        plain = super().write

        def write_part() -> None:
            plain(part[: len(part) // 2])

        self._disk.count("write", self.name, write_part)
        return plain(data)
