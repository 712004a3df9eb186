"""Files that a command writes: tried before the work begins, and written whole or not at all.

Hours of measuring must not be lost to a misspelt path, so a command names its outputs first and works afterwards.
Trying leaves nothing behind. A file is written beside its place and renamed: its name never stands for a part of it.
`-` is standard output; `~` is the home folder also where no shell has replaced it, as in `--png=~/a.png`.
"""

import os
import secrets
import shutil
import sys
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from hnet_lm.errors import UserError

STANDARD_OUTPUT = "-"


class OutputError(UserError):
    """A file that cannot be written; the message names it."""


@dataclass(frozen=True)
class Output:
    """A file, or standard output, that can be written as far as can be known before."""

    given: str
    """As the user wrote it."""

    @classmethod
    def tried(cls, given: str | Path, kinds: Collection[str] = ()) -> "Output":
        """Check the path, and that its ending is one of `kinds` (such as "png") or none. Raises OutputError."""
        output = cls(str(given))
        if kinds and output.kind not in ("", *kinds):
            endings = ", ".join(f".{kind}" for kind in kinds)
            raise OutputError(f"{given}: cannot be written as .{output.kind}; the endings are {endings}")
        if not output.is_standard_output:
            with _naming(output.given):
                _try_file(output.given)
        return output

    @property
    def is_standard_output(self) -> bool:
        return self.given == STANDARD_OUTPUT

    @property
    def path(self) -> Path:
        """The file itself, behind any links: a link stays where it is."""
        return Path(os.path.realpath(os.path.expanduser(self.given)))

    @property
    def kind(self) -> str:
        """The ending in lower case, without its dot."""
        return "" if self.is_standard_output else self.path.suffix.removeprefix(".").lower()

    def write(self, content: str | bytes) -> None:
        """Write all of it, text in UTF-8. Raises OutputError; a file that was there is then as it was."""
        data = content.encode("utf-8", "replace") if isinstance(content, str) else content
        with self.stream() as file:
            file.write(data)

    @contextmanager
    def stream(self) -> Iterator[IO[bytes]]:
        """A file to write in pieces: it takes its place when the block ends, and is removed if the block fails."""
        if self.is_standard_output:
            sys.stdout.flush()
            yield sys.stdout.buffer
            sys.stdout.buffer.flush()
            return
        with _naming(self.given):
            if _is_replaceable(self.path):
                with _replacing(self.path) as file:
                    yield file
            else:
                with self.path.open("wb") as file:
                    yield file


@dataclass(frozen=True)
class OutputFolder:
    """A folder for files; it is made when the first is written."""

    given: str

    @classmethod
    def tried(cls, given: str | Path) -> "OutputFolder":
        """Raises OutputError where no folder can be, or be written into."""
        folder = cls(str(given))
        with _naming(folder.given):
            _try_folder(folder.path)
        return folder

    @property
    def path(self) -> Path:
        return Path(os.path.expanduser(self.given))

    def write(self, contents: Mapping[str, str | bytes]) -> None:
        """Write files by name, which may be in folders of this one. Raises OutputError."""
        with _naming(self.given):
            for folder in {(self.path / name).parent for name in contents}:
                folder.mkdir(parents=True, exist_ok=True)
        write_all({Output(str(self.path / name)): content for name, content in contents.items()})


def tried(*outputs: tuple[str | None, Collection[str]]) -> list[Output | None]:
    """An `Output` for each (path, kinds); None for no path. Raises OutputError, also for two of one path."""
    found = [None if given is None else Output.tried(given, kinds) for given, kinds in outputs]
    seen: dict[Path | str, str] = {}
    for output in filter(None, found):
        place = output.given if output.is_standard_output else output.path
        if place in seen:
            raise OutputError(f"{output.given}: two outputs would be written there; give each its own")
        seen[place] = output.given
    return found


def write_all(contents: Mapping[Output, str | bytes]) -> None:
    """Write every output, also those after one that fails; then raises OutputError for the first that did."""
    failed: list[OutputError] = []
    for output, content in contents.items():
        try:
            output.write(content)
        except OutputError as error:
            failed.append(error)
    if failed:
        raise failed[0]


@contextmanager
def _naming(given: str) -> Iterator[None]:
    """What the system refuses becomes one line that says where."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{given}: cannot be written: {error.strerror or error}") from error


def _try_file(given: str) -> None:
    path = Output(given).path
    if not given:
        raise OutputError("an output has an empty path; name a file")
    if path.is_dir() or given.endswith(os.sep):
        raise OutputError(f"{given}: is a folder; name a file in it")
    if not path.exists():
        _try_folder_entry(path.parent)
    elif not os.access(path, os.W_OK):
        raise PermissionError(0, "it is there and cannot be changed")


def _try_folder(folder: Path) -> None:
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        raise NotADirectoryError(0, f"{folder} is a file, not a folder")
    _try_folder_entry(folder)


def _try_folder_entry(folder: Path) -> None:
    """Make a file there, and remove it."""
    partial = _partial(folder)
    partial.touch(exist_ok=False)
    partial.unlink()


def _is_replaceable(path: Path) -> bool:
    """A device or a pipe is written to as it is, and so is a file in a folder that takes no new one."""
    return not path.exists() or (path.is_file() and os.access(path.parent, os.W_OK))


@contextmanager
def _replacing(path: Path) -> Iterator[IO[bytes]]:
    partial = _partial(path.parent)
    try:
        with partial.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            shutil.copymode(path, partial)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _partial(folder: Path) -> Path:
    return folder / f".{secrets.token_hex(4)}.partial"
