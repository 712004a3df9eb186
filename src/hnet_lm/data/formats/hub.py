"""Hugging Face datasets, streamed: by name from the hub, or from a local dataset directory.

The only file that needs the package `datasets`.
"""

from collections.abc import Iterator

import datasets
import datasets.exceptions

from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError

LIBRARY_ERRORS = (OSError, ValueError, EOFError, datasets.exceptions.DatasetsError)
ROWS_A_STATE = 1000  # the library's own reading state is large to copy: it is kept every so many rows


def read_hub(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The column's rows in the dataset's order; rows with an empty text are passed over."""
    config = request.config
    try:
        rows = datasets.load_dataset(
            request.path.partition(":")[2], config.subset or None, split=config.split, streaming=True
        )
    except LIBRARY_ERRORS as error:
        raise DataError(f"{request.path}: the split {config.split!r} cannot be opened: {_reason(error)}") from error
    for row, record, resume in _numbered(request.path, rows, position):
        if not request.wants(row - 1):
            continue
        value = record.get(config.field)
        if not isinstance(value, str | bytes):
            request.report(DataError(f"{request.path}: row {row}: {_problem(record, config.field)}"))
        elif value:
            yield Part(value.encode() if isinstance(value, str) else value, row - 1, 0, True, True, resume)


def _numbered(
    path: str, rows: datasets.IterableDataset, position: Position | None
) -> Iterator[tuple[int, dict, Position]]:
    """The rows after `position` with their numbers, from 1, and where to go on after each."""
    last_seen = position["row"] if position else 0
    if position and position["state"] is not None:
        rows.load_state_dict(position["state"])
        state, row_of_state = position["state"], position["row_of_state"]
    else:
        state, row_of_state = None, 0
    row = row_of_state
    records = iter(rows)
    while True:
        try:
            record = next(records, None)
        except LIBRARY_ERRORS as error:
            raise DataError(f"{path}: damaged or cut off after row {row}: {_reason(error)}") from error
        if record is None:
            return
        row += 1
        if row > last_seen:
            yield row, record, {"state": state, "row_of_state": row_of_state, "row": row}
        if row % ROWS_A_STATE == 0:
            state, row_of_state = rows.state_dict(), row


def _reason(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _problem(record: dict, field: str) -> str:
    if field not in record:
        return f"no column {field!r}; the dataset has {', '.join(map(repr, record))}"
    return f"column {field!r} holds neither text nor bytes but {type(record[field]).__name__}"
