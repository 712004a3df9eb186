"""The files of a source and their fingerprints, so that a run is never resumed with other data."""

import glob
import os

from hnet_lm.data.config import SourceConfig
from hnet_lm.data.formats import HUB_PREFIX
from hnet_lm.data.formats.format import num_shards
from hnet_lm.data.samples import SAMPLE_PREFIX, sample_path
from hnet_lm.errors import DataError
from hnet_lm.inputs import READ_ERRORS, expand, fingerprint

WHOLE_BYTES = 256 << 20
"""Per source, divided among its files: a file within its share is hashed as a whole, larger ones in samples."""
UNREADABLE = "unreadable"
SHARDS = "shards"


def paths_of(config: SourceConfig) -> list[str]:
    """The files of a source, in the order of their numbers. Raises DataError."""
    if config.path.startswith(SAMPLE_PREFIX):
        return [sample_path(config.path.removeprefix(SAMPLE_PREFIX), config.split)]
    if is_hub(config):
        return [config.path] * num_shards(config)
    return expand(config.path)


def is_hub(config: SourceConfig) -> bool:
    """Whether the datasets library reads the source; then its shards take the place of files."""
    return config.path.startswith(HUB_PREFIX)


def fingerprints(source: SourceConfig) -> list[str]:
    """One per file of a source, in order; for a dataset on the hub, the number of its shards. Raises DataError for a
    pipe."""
    paths = _known_paths(source)
    if not paths:
        return [f"{num_shards(source)}:{SHARDS}"]
    return [_fingerprint(path, WHOLE_BYTES // len(paths)) for path in paths]


def require_same_files(source: SourceConfig, saved: list[str], now: list[str]) -> None:
    """Raises DataError that names the first changed file, if a source has changed."""
    advice = "put back the files of the run, or begin a new run in another directory"
    if len(now) != len(saved):
        raise DataError(
            f"{source.path} names {len(now)} files now and named {len(saved)} when the run was saved; {advice}"
        )
    for number, (before, after) in enumerate(zip(saved, now, strict=True)):
        if before != after:
            how = _difference(before, after)
            path = source.path if before.endswith(SHARDS) else _known_paths(source)[number]
            raise DataError(f"{path} changed since the run was saved ({how}); {advice}")


def _known_paths(source: SourceConfig) -> list[str]:
    """The files; for a local directory that the datasets library reads, all files in it."""
    if not is_hub(source):
        return paths_of(source)
    directory = source.path.removeprefix(HUB_PREFIX)
    return expand(os.path.join(glob.escape(directory), "**")) if os.path.isdir(directory) else []


def _fingerprint(path: str, whole_bytes: int) -> str:
    try:
        return fingerprint(path, whole_bytes)
    except READ_ERRORS:
        return UNREADABLE  # reading the file reports why, or skips it


def _difference(before: str, after: str) -> str:
    if UNREADABLE in (before, after):
        return "it can be read now, and could not before" if before == UNREADABLE else "it can no longer be read"
    old_size, new_size = before.partition(":")[0], after.partition(":")[0]
    if old_size != new_size:
        unit = SHARDS if before.endswith(SHARDS) else "bytes"
        return f"it had {old_size} {unit} and has {new_size}"
    return "it has the same size, but other contents"
