"""Parquet: one column holds the documents. The only file that needs the package `pyarrow`.

Text is read as the stored bytes, whichever of Arrow's text or bytes types the column has; they need not be UTF-8.
"""

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError
from hnet_lm.inputs import open_input

ROWS_AT_ONCE = 256
TEXT_TYPES = (
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
ARROW_ERRORS = (pa.ArrowException, UnicodeDecodeError)  # the latter for the names of columns


def read_parquet(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The column's rows, a few at a time; rows with an empty text are skipped."""
    with _open_seekable(request.path) as stored:
        try:
            yield from _read_rows(request, pq.ParquetFile(stored), position["row"] if position else 0)
        except ARROW_ERRORS as error:
            reason = str(error).partition("\n")[0]
            raise DataError(f"{request.path}: not a readable parquet file: {reason}") from error


def _open_seekable(path: str) -> BinaryIO:
    """The file itself; if it is compressed or a pipe, a temporary copy, since the index of Parquet is at the end."""
    stored = open_input(path)
    if stored.seekable():
        return stored
    unpacked: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever reads it; a file in all but type
    with stored:
        shutil.copyfileobj(stored, unpacked)
    return unpacked


def _read_rows(request: FileRequest, file: pq.ParquetFile, first_row: int) -> Iterator[Part]:
    column = request.config.field
    if column not in file.schema_arrow.names:
        raise DataError(f"{request.path}: no column {column!r}; the file has {', '.join(file.schema_arrow.names)}")
    kind = file.schema_arrow.field(column).type
    if not _is_text(kind):
        raise DataError(f"{request.path}: column {column!r} holds neither text nor bytes but {kind}")
    if file.metadata.num_rows == 0:
        raise DataError(f"{request.path} is empty: it has no rows")
    row = 0
    for group in range(file.num_row_groups):
        rows_of_group = file.metadata.row_group(group).num_rows
        if rows_of_group < 0:
            raise DataError(f"{request.path}: damaged: row group {group + 1} has {rows_of_group} rows")
        end = row + rows_of_group
        if end <= first_row:
            row = end
            continue
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
            for data in _as_bytes(batch.column(0)):
                row += 1
                if row <= first_row or not request.wants(row - 1):
                    continue
                if data is None:
                    request.report(DataError(f"{request.path}: row {row}: column {column!r} is null"))
                elif data:
                    yield Part(data, row - 1, 0, True, True, {"row": row})
        if row != end:  # pyarrow does not report it
            found = rows_of_group - (end - row)
            raise DataError(
                f"{request.path}: damaged: row group {group + 1} has {found} rows and should have {rows_of_group}"
            )


def _is_text(kind: pa.DataType) -> bool:
    if isinstance(kind, pa.BaseExtensionType):  # such as JSON
        return _is_text(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return _is_text(kind.value_type)
    return any(is_type(kind) for is_type in TEXT_TYPES)


def _as_bytes(column: pa.Array) -> list[bytes | None]:
    if isinstance(column, pa.ExtensionArray):
        return _as_bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return _as_bytes(column.dictionary_decode())
    return column.cast(pa.large_binary()).to_pylist()
