"""Text files and raw bytes: a file is one document, or has documents between separators.

Documents are yielded in parts of `PART_BYTES`, counted from the start of the document, so that the parts are the same
whether the file is read from its start or from the middle after a stop.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from hnet_lm.data.formats.format import DataFormat
from hnet_lm.data.parts import PART_BYTES, FileRequest, Part, Position
from hnet_lm.errors import DataError
from hnet_lm.inputs import open_input, require_content

PARQUET = b"PAR1"


def read_whole(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The file as one document."""
    if not request.wants(0):
        return
    byte = position["byte"] if position else 0
    offset = byte - 1 if byte else 0
    with open_input(request.path, offset) as stream:
        if position is None:
            require_content(stream, request.path)
        data = stream.read(PART_BYTES + (byte > 0))
        if position is None and request.config.format == "auto" and data.startswith(PARQUET):
            raise DataError(f"{request.path}: is a Parquet file, by its first bytes; say so by format 'parquet'")
        if byte > 0 and len(data) == 1:  # all of it was yielded before the stop
            return
        ends = False
        while not ends:
            following = stream.read(PART_BYTES)
            ends = not following
            yield Part(data, 0, offset, offset == 0, ends, {"byte": offset + len(data)})
            offset += len(data) - 1
            data = data[-1:] + following


def read_separated(request: FileRequest, position: Position | None) -> Iterator[Part]:
    """The documents between the separators; empty ones are skipped."""
    separator = request.config.separator.encode()
    start = position or {"byte": 0, "record": 0, "offset": 0}
    byte, record, offset = start["byte"], start["record"], start["offset"]
    with open_input(request.path, byte) as stream:
        if position is None:
            require_content(stream, request.path)
        pending = b""
        at_end = False
        while not at_end:
            block = stream.read(PART_BYTES)
            at_end = not block
            *complete, pending = (pending + block).split(separator)
            texts = [(text, True) for text in complete]
            texts.append((pending, at_end))
            for text, ends in texts:
                # Before the end of the text, hold back what may be the beginning of a separator.
                kept_back = 0 if ends else len(separator)
                while len(text) - (offset > 0) > PART_BYTES + kept_back:
                    data = text[: PART_BYTES + (offset > 0)]
                    resume = {"byte": byte + len(data) - 1, "record": record, "offset": offset + len(data) - 1}
                    if request.wants(record):
                        yield Part(data, record, offset, offset == 0, False, resume)
                    text = text[len(data) - 1 :]
                    byte, offset = resume["byte"], resume["offset"]
                if not ends:
                    pending = text
                    continue
                byte += len(text) + (0 if at_end else len(separator))
                if text:
                    following = {"byte": byte, "record": record + 1, "offset": 0}
                    if request.wants(record):
                        yield Part(text, record, offset, offset == 0, True, following)
                    record, offset = record + 1, 0


@dataclass(frozen=True)
class Text(DataFormat):
    """A file is one document, or has documents between the source's separators."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        return read_separated(request, position) if request.config.separator else read_whole(request, position)


@dataclass(frozen=True)
class Bytes(DataFormat):
    """A file is one document, whatever it contains."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        return read_whole(request, position)
