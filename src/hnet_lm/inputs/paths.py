"""Paths as people write them: `~`, globs, links, names with any character, URLs."""

import glob
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf
from hnet_lm.inputs.compression import COMPRESSION_OF_SUFFIX

PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*(::[A-Za-z0-9+.-]+)*://")
ANY_FOLDERS = "**"


def is_remote(path: str) -> bool:
    """Whether the path is a URL for fsspec (`s3://...`, also chained: `zip://*.txt::s3://...`)."""
    return PROTOCOL.match(path) is not None


def local(path: str | Path) -> str:
    """The path with `~` and `~user` replaced by the home folder."""
    return os.path.expanduser(path)


def is_pipe(path: str) -> bool:
    """Whether a local path is a pipe, which can be read only once; False where there is no file."""
    try:
        mode = os.stat(local(path)).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode)


def name_suffix(path: str) -> str:
    """The last suffix, lower case; of a web address without what follows `?` or `#`."""
    name = urlsplit(path).path if path.lower().startswith(("http://", "https://")) else path
    return os.path.splitext(name.lower())[1]


def content_suffix(path: str) -> str:
    """The suffix that names the format, below one that names a compression: `.txt` of `a.txt.gz` and of `a.txt`."""
    suffix = name_suffix(path)
    if suffix not in COMPRESSION_OF_SUFFIX:
        return suffix
    return name_suffix(path[: path.lower().rindex(suffix)])


def expand(pattern: str) -> list[str]:
    """The files that a path or a glob names, sorted; each file once, however many links lead to it.

    A link to a file that is not there counts as a file, so that whoever reads it says so. Raises DataError if there is
    no file, and for a folder that is named or may not be listed.
    """
    if is_remote(pattern):
        return import_leaf("hnet_lm.inputs.remote", "train", f"reading {pattern}", DataError).expand(pattern)
    path = local(pattern)
    if os.path.isdir(path):
        raise DataError(f"{pattern} is a directory; name its files, for example {os.path.join(pattern, '*.txt')}")
    if os.path.lexists(path) or not glob.has_magic(path):
        return [path]
    names_of: dict[str, list[str]] = {}
    for name in sorted(set(_matches(path))):
        if os.path.isfile(name) or not os.path.exists(name):
            names_of.setdefault(os.path.realpath(name), []).append(name)
    if not names_of:
        raise DataError(f"no file matches {pattern}")
    return sorted(_own_name(file, names) for file, names in names_of.items())


def _own_name(file: str, names: list[str]) -> str:
    """Of a file's names the one that is no link, if it is among them."""
    return next((name for name in names if os.path.abspath(name) == file), names[0])


def _matches(pattern: str) -> Iterator[str]:
    """As `glob.glob`, but `**` enters every folder once: by links, too, but not round in circles."""
    parts = pattern.split(os.sep)
    if ANY_FOLDERS not in parts:
        yield from glob.glob(pattern)
        return
    place = parts.index(ANY_FOLDERS)
    before, after = os.sep.join(parts[:place]), os.sep.join(parts[place + 1 :]) or "*"
    roots = [os.sep] if place == 1 and not before else sorted(glob.glob(before)) if place else [""]
    for root in roots:
        for folder in _folders(root):
            yield from _matches(os.path.join(glob.escape(folder), after))


def _folders(root: str) -> Iterator[str]:
    """The folder and all below it that are not hidden, each once; those reached only by a link come last."""
    waiting, by_link, entered = [root], [], set()
    while waiting or by_link:
        folder = waiting.pop() if waiting else by_link.pop(0)
        identity = os.path.realpath(folder)
        if identity in entered:
            continue
        entered.add(identity)
        yield folder
        try:
            with os.scandir(folder or os.curdir) as entries:
                for entry in sorted(entries, key=lambda entry: entry.name, reverse=True):
                    if not entry.name.startswith(".") and entry.is_dir():
                        (by_link if entry.is_symlink() else waiting).append(os.path.join(folder, entry.name))
        except NotADirectoryError:
            continue
        except OSError as error:
            raise DataError(f"{folder}: cannot be listed: {error.strerror}") from error
