"""Remote files. The only file that needs the package `fsspec`."""

from typing import Any

from fsspec.core import url_to_fs

from hnet_lm.errors import DataError

WEB = ("http://", "https://")
END_BYTES = 4096


def expand(pattern: str) -> list[str]:
    """The files that a URL or a glob of URLs names, sorted, each with its protocol."""
    try:
        file_system, path = url_to_fs(pattern)
        magic = "*[" if pattern.startswith(WEB) else "*?["  # behind a web address, ? begins its query
        if not any(character in path for character in magic):
            return [pattern]
        found = sorted(file_system.glob(path))
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"cannot list {pattern}: {error}") from error
    if not found:
        raise DataError(f"no file matches {pattern}")
    return [file_system.unstrip_protocol(str(name)) for name in found]


def open_file(url: str) -> Any:
    """A stream of the file's stored bytes, seekable where the server allows it."""
    try:
        return url_to_fs(url)[0].open(url, "rb")
    except (ValueError, ImportError) as error:
        raise DataError(f"cannot open {url}: {error}") from error


def ends_of(url: str) -> tuple[int | None, bytes]:
    """The file's size, None where the server does not say, and its first and last bytes."""
    try:
        file_system, path = url_to_fs(url)
        size = file_system.info(path).get("size")
        if size is None:
            return None, b""
        first = file_system.cat_file(path, 0, min(END_BYTES, size))
        return size, first + file_system.cat_file(path, max(size - END_BYTES, 0), size)
    except (ValueError, ImportError) as error:
        raise DataError(f"cannot open {url}: {error}") from error
