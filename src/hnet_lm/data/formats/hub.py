"""Hugging Face datasets, streamed: by name from the hub, or from a local dataset directory.

A split may be a slice of its rows, in the syntax of the datasets library: `train[:95%]`, `train[1000:2000]`.

The shards of a dataset (usually its files) are read independently, so that streams can divide them; from columnar
formats only one column is read. The only file that needs the package `datasets`.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple

import datasets
import datasets.exceptions

from hnet_lm.data.config import SourceConfig
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError

BOUND = r"(?:(-?\d+)(%?))?"
SLICE = re.compile(rf"(?P<split>[^\[\]]+)(?:\[{BOUND}:{BOUND}\])?")
LIBRARY_ERRORS = (OSError, ValueError, EOFError, datasets.exceptions.DatasetsError)
ROWS_A_STATE = 1000  # the library's state is expensive to copy, so it is kept every so many rows


class RowSlice(NamedTuple):
    """Rows of a split from `start` up to `end`: row numbers or per cent; negative ones count from the end."""

    split: str
    start: tuple[int, bool] | None
    """The number, and whether it is in per cent."""
    end: tuple[int, bool] | None

    @classmethod
    def read(cls, text: str) -> "RowSlice":
        """Raises DataError."""
        match = SLICE.fullmatch(text)
        if match is None:
            raise DataError(
                f"data.sources.split {text!r}: must be a split, or rows of one as train[:95%] or train[10:20]"
            )
        bounds = [None if match[i] is None else (int(match[i]), match[i + 1] == "%") for i in (2, 4)]
        for bound in filter(None, bounds):
            if bound[1] and abs(bound[0]) > 100:
                raise DataError(f"data.sources.split {text!r}: {bound[0]} % is more than there is")
        return cls(match["split"], *bounds)

    @property
    def is_slice(self) -> bool:
        """Whether it may be smaller than the split."""
        return self.start is not None or self.end is not None

    def bounds(self, path: str, rows: datasets.IterableDataset) -> tuple[int, int | None]:
        """How many rows are before it, and the number of its last row. Raises DataError."""
        needs_number = [bound for bound in (self.start, self.end) if bound and (bound[1] or bound[0] < 0)]
        num_rows = _num_rows(rows) if needs_number else None
        if needs_number and num_rows is None:
            raise DataError(
                f"{path}: the number of rows of {self.split!r} is not known, so give numbers of rows counted from its "
                f"beginning, as in {self.split}[:100000], and not a share or a number from the end"
            )
        start, end = (None if bound is None else _row(bound, num_rows) for bound in (self.start, self.end))
        if end is not None and end <= (start or 0):
            raise DataError(f"{path}: the slice of {self.split!r} holds no rows")
        return start or 0, end


def _row(bound: tuple[int, bool], num_rows: int | None) -> int:
    total = num_rows or 0
    number = round(bound[0] * total / 100) if bound[1] else bound[0]
    return number if bound[0] >= 0 else max(0, total + number)


def num_shards(config: SourceConfig) -> int:
    """The number of parts in which the split is read; a slice of rows, which are counted over all parts, is one part.

    Also one if the split cannot be opened: reading it reports why, or skips it.
    """
    part = RowSlice.read(config.split)
    try:
        return 1 if part.is_slice else _open(config.path, config.subset, part.split, config.field).num_shards
    except DataError:
        return 1


def read_hub(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The column's rows of one shard, in the dataset's order; rows with an empty text are skipped."""
    config = request.config
    part = RowSlice.read(config.split)
    rows = _open(request.path, config.subset, part.split, config.field)
    first, last = part.bounds(request.path, rows)
    path, shards = request.path, 1 if part.is_slice else rows.num_shards
    if shards > 1:
        path += f": shard {request.number + 1} of {shards}"
    rows = rows.shard(shards, request.number)
    for row, record, resume in _numbered(path, rows, position):
        if last is not None and row > last:
            return
        if row <= first or not request.wants(row - 1):
            continue
        value = record.get(config.field)
        if not isinstance(value, str | bytes):
            request.report(DataError(f"{path}: row {row}: {_problem(record, config.field)}"))
        elif value:
            yield Part(value.encode() if isinstance(value, str) else value, row - 1, 0, True, True, resume)


@cache
def _open(path: str, subset: str, split: str, column: str) -> datasets.IterableDataset:
    """A split, of which only the column is read if its format is columnar. Iterate over its shards only.

    Raises DataError.
    """
    try:
        builder: Any = datasets.load_dataset_builder(path.partition(":")[2], subset or None)
        rows = builder.as_streaming_dataset(split)
        if column in (rows.column_names or ()) and hasattr(builder.config, "columns"):
            builder.config.columns = [column]
            rows = builder.as_streaming_dataset(split)
    except LIBRARY_ERRORS as error:
        raise DataError(f"{path}: the split {split!r} cannot be opened: {_reason(error)}") from error
    return rows


def _num_rows(rows: datasets.IterableDataset) -> int | None:
    """The number of rows of the split, if the dataset's card has it."""
    splits = rows.info.splits
    found = None if splits is None or str(rows.split) not in splits else splits[str(rows.split)].num_examples
    return found or None


def _numbered(
    path: str, rows: datasets.IterableDataset, position: Position | None
) -> Iterator[tuple[int, dict, Position]]:
    """The rows after `position` with their numbers, from 1, and the position to resume at after each."""
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
