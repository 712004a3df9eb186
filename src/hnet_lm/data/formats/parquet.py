"""Parquet: one column holds the documents. The only file that needs the package `pyarrow`."""

import shutil
import tempfile
from collections.abc import Iterator
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from hnet_lm.data.files import is_compressed, open_raw, open_stream
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError

ROWS_AT_ONCE = 256


def read_parquet(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The column's rows, a few at a time; rows with an empty text are passed over."""
    with _open_seekable(request.path) as stored:
        try:
            yield from _read_rows(request, pq.ParquetFile(stored), position["row"] if position else 0)
        except pa.ArrowException as error:
            raise DataError(f"{request.path}: not a readable parquet file: {error}") from error


def _open_seekable(path: str) -> BinaryIO:
    """The file itself; one that is compressed as a whole is unpacked into a temporary file, since its index is last."""
    if not is_compressed(path):
        return open_raw(path)
    unpacked: Any = tempfile.TemporaryFile()  # noqa: SIM115 - closed by whoever reads it; a file in all but type
    with open_stream(path) as stream:
        shutil.copyfileobj(stream, unpacked)
    return unpacked


def _read_rows(request: FileRequest, file: pq.ParquetFile, first_row: int) -> Iterator[Part]:
    column = request.config.field
    if column not in file.schema_arrow.names:
        raise DataError(f"{request.path}: no column {column!r}; the file has {', '.join(file.schema_arrow.names)}")
    kind = file.schema_arrow.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_binary(kind)):
        raise DataError(f"{request.path}: column {column!r} holds neither text nor bytes but {kind}")
    if file.metadata.num_rows == 0:
        raise DataError(f"{request.path} is empty: it has no rows")
    row = 0
    for group in range(file.num_row_groups):
        rows_of_group = file.metadata.row_group(group).num_rows
        if row + rows_of_group <= first_row:
            row += rows_of_group
            continue
        for batch in file.iter_batches(ROWS_AT_ONCE, row_groups=[group], columns=[column]):
            for value in batch.column(0).to_pylist():
                row += 1
                if row <= first_row or not request.wants(row - 1):
                    continue
                if value is None:
                    request.report(DataError(f"{request.path}: row {row}: column {column!r} is null"))
                elif value:
                    data = value.encode() if isinstance(value, str) else value
                    yield Part(data, row - 1, 0, True, True, {"row": row})


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind)
