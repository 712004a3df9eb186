"""Data files: the documents are the same when damage is skipped, and read on from any place they are the same too."""

import json
from pathlib import Path

from refusals import read_or_refused

from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.data.formats import reader_for
from hnet_lm.data.parts import FileRequest
from hnet_lm.errors import DataError
from hnet_lm.inputs import READ_ERRORS


def check_documents(source: SourceConfig) -> None:
    kept = read_or_refused(lambda: [each.data for each in documents(DataConfig((source,), on_error="skip"))])
    whole = read_or_refused(lambda: [each.data for each in documents(DataConfig((source,)))])
    assert whole is None or whole == kept
    _check_resumes(source)


def _check_resumes(source: SourceConfig) -> None:
    """From the middle the reader goes on as if it had never stopped, up to the damage if there is one."""
    request = FileRequest(source.path, source, lambda error: None)
    read = reader_for(source.path, source)
    parts = []
    try:
        for part in read(request, None):
            parts.append(part)
    except (DataError, *READ_ERRORS):
        return
    if parts:
        middle = len(parts) // 2
        position = json.loads(json.dumps(parts[middle].resume))
        assert list(read(request, position)) == parts[middle + 1 :]


def source_of(path: Path, **options: object) -> SourceConfig:
    return SourceConfig(str(path), **options)  # pyright: ignore[reportArgumentType]  options of any type
