"""Remote files. The only file that needs the package `fsspec`."""

from typing import Any

from fsspec.core import url_to_fs

from hnet_lm.errors import DataError


def expand(pattern: str) -> list[str]:
    """The files that a URL or a glob of URLs names, sorted, each with its protocol."""
    try:
        file_system, path = url_to_fs(pattern)
        if not any(character in path for character in "*?["):
            return [pattern]
        found = sorted(file_system.glob(path))
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"cannot list {pattern}: {error}") from error
    if not found:
        raise DataError(f"no file matches {pattern}")
    return [file_system.unstrip_protocol(str(name)) for name in found]


def open_file(url: str) -> Any:
    """A seekable stream of the file's stored bytes."""
    try:
        return url_to_fs(url)[0].open(url, "rb")
    except (ValueError, ImportError) as error:
        raise DataError(f"cannot open {url}: {error}") from error
