"""The output of readers: parts of documents, each with the position at which reading resumes after it.

A document is a string of bytes. A reader yields it whole if it is small, and otherwise in parts of at most
`PART_BYTES`, so that documents of any size need bounded memory. A part that does not start its document repeats the
last byte of the part before: inputs are then `part[:-1]` and targets `part[1:]` in every part, and each byte of the
document is a target exactly once.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from hnet_lm.data.config import SourceConfig
from hnet_lm.errors import DataError

PART_BYTES = 1 << 20

Position = Mapping[str, Any]  # small and JSON-serializable; only the reader that made it interprets it
Report = Callable[[DataError], None]  # raises the error or counts it, as configured


class Part(NamedTuple):
    """A part of one document."""

    data: bytes
    record: int  # number of the document's record in its file, from 0
    offset: int  # index of `data[0]` in its document
    starts: bool  # `data` begins the document
    ends: bool  # `data` ends the document
    resume: Position  # where to resume after this part
    num_prompt: int = 0  # number of the first bytes of `data` that are context, not targets


class Document(NamedTuple):
    """A whole document and its origin."""

    data: bytes
    path: str
    record: int
    num_prompt: int = 0  # number of its first bytes that are context, not targets


@dataclass(frozen=True)
class FileRequest:
    """One file to be read once, and which of its records are wanted."""

    path: str
    config: SourceConfig
    report: Report
    stream: int = 0  # of `num_streams`: records r with r % num_streams == stream are wanted
    num_streams: int = 1
    random_key: tuple[int, ...] = (0,)  # seeds this file's augmentation in this epoch
    number: int = 0  # of the file among those of its source

    def wants(self, record: int) -> bool:
        return record % self.num_streams == self.stream


# Reads the wanted records of a file, from its start or from where an earlier part says to resume.
Reader = Callable[[FileRequest, Position | None], Iterator[Part]]
