"""JSON lines: one record per line; one field is the document. Lines are read into memory as a whole."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hnet_lm.data.formats.format import DataFormat
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError
from hnet_lm.inputs import open_input, require_content, without_mark


def read_jsonl(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The field of each line; blank lines and empty texts are skipped."""
    start = position or {"byte": 0, "line": 0}
    byte, number = start["byte"], start["line"]
    field, prompt_field = request.config.field, request.config.prompt_field
    with open_input(request.path, byte) as stream:
        if position is None:
            stream, byte = without_mark(stream, request.path)
            require_content(stream, request.path)
        for line in stream:
            byte += len(line)
            number += 1
            if not request.wants(number - 1) or line.isspace():
                continue
            try:
                record = _record_of(line)
                prompt = _text_of(record, prompt_field) if prompt_field else b""
                data = _text_of(record, field)
            except (ValueError, RecursionError) as error:
                request.report(DataError(f"{request.path}:{number}: {error}"))
                continue
            if data:
                yield Part(prompt + data, number - 1, 0, True, True, {"byte": byte, "line": number}, len(prompt))


def _record_of(line: bytes) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise ValueError(f"not JSON: {error.msg} at column {error.colno}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start} of the line") from error
    if not isinstance(record, dict):
        raise ValueError(f"not a JSON object but {type(record).__name__}")
    return record


def _text_of(record: dict[str, Any], field: str) -> bytes:
    if field not in record:
        raise ValueError(f"no field {field!r}; the record has {', '.join(map(repr, record)) or 'none'}")
    text = record[field]
    if not isinstance(text, str):
        raise ValueError(f"field {field!r} is not a string but {type(text).__name__}")
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"field {field!r} holds half of a surrogate pair at character {error.start}") from error


@dataclass(frozen=True)
class Jsonl(DataFormat):
    """One JSON object per line; a field of it is the document."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        return read_jsonl(request, position)
