"""The base class of data formats, which read the documents of a file. Fields are keys in a configuration."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from hnet_lm.data.config import SourceConfig
from hnet_lm.data.parts import FileRequest, Part, Position
from hnet_lm.errors import DataError
from hnet_lm.extras import import_leaf


@dataclass(frozen=True)
class DataFormat(ABC):
    """Reads files of one kind."""

    @abstractmethod
    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        """The wanted records of a file, from its start or from where an earlier part says to resume (`Part.resume`).

        Raises DataError if the file as a whole cannot be read; reports single records to `request.report`.
        """


@dataclass(frozen=True)
class Parquet(DataFormat):
    """One column holds the documents."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        leaf = import_leaf("hnet_lm.data.formats.parquet", "train", f"reading {request.path}", DataError)
        return leaf.read_parquet(request, position)


@dataclass(frozen=True)
class Hub(DataFormat):
    """A dataset of the Hugging Face hub, or a local dataset directory."""

    def read(self, request: FileRequest, position: Position | None) -> Iterator[Part]:
        return _hub(request.path).read_hub(request, position)


def num_shards(config: SourceConfig) -> int:
    """For a dataset of the hub, the number of parts that are read independently. Raises DataError."""
    return _hub(config.path).num_shards(config)


def _hub(path: str) -> ModuleType:
    return import_leaf("hnet_lm.data.formats.hub", "hf", f"reading {path}", DataError)
