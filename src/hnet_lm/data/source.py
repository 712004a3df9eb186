"""A source: its files, their order in an epoch, and the parts of documents in them."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from hnet_lm.data.config import SourceConfig
from hnet_lm.data.files import paths_of
from hnet_lm.data.formats import reader_for
from hnet_lm.data.parts import FileRequest, Part, Position, Report
from hnet_lm.data.split import EVERYTHING, Split
from hnet_lm.errors import DataError
from hnet_lm.inputs import READ_ERRORS, reason_of


class PlacedPart(NamedTuple):
    """A part, and the position of its file in this epoch's order and among the sorted files of the source."""

    part: Part
    rank: int
    file: int


class Source:
    """The files of one `SourceConfig`, divided among `num_streams` streams without overlap.

    With at least as many files as streams each stream reads its own files; with fewer, each reads all of them and takes
    its own records.
    """

    def __init__(
        self,
        config: SourceConfig,
        index: int,
        *,
        vocab_size: int,
        report: Report,
        seed: int = 0,
        shuffle_files: bool = False,
        stream: int = 0,
        num_streams: int = 1,
        split: Split = EVERYTHING,
    ) -> None:
        self.config = config
        self.index = index
        self.paths = paths_of(config)
        self._forbidden = [bytes([value]) for value in range(vocab_size - 2, 256)]
        self._vocab_size = vocab_size
        self._report = report
        self._seed = seed
        self._shuffle_files = shuffle_files
        self._own_files = len(self.paths) >= num_streams
        self._stream = stream
        self._num_streams = num_streams
        self._split = split

    @property
    def share(self) -> str:
        """The part of the source that this is, for messages; empty if it is all of it."""
        if self._num_streams == 1:
            return ""
        return f" for stream {self._stream + 1} of {self._num_streams}; lower data.streams"

    def epoch(self, epoch: int, rank: int = 0, position: Position | None = None) -> Iterator[PlacedPart]:
        """The parts of one epoch, from `position` in the file at `rank` in the epoch's order."""
        order = self._order(epoch)
        for place in range(rank, len(order)):
            file = order[place]
            for part in self._read(file, epoch, position):
                yield PlacedPart(part, place, file)
            position = None

    def _order(self, epoch: int) -> list[int]:
        files = np.arange(len(self.paths))
        if self._own_files:
            files = files[self._stream :: self._num_streams]
        if self._shuffle_files:
            files = np.random.default_rng((self._seed, self.index, epoch)).permutation(files)
        return files.tolist()

    def _read(self, file: int, epoch: int, position: Position | None) -> Iterator[Part]:
        path = self.paths[file]
        stream, num_streams = (0, 1) if self._own_files else (self._stream, self._num_streams)
        key = (self._seed, self.index, epoch, file)
        request = FileRequest(path, self.config, self._report, stream, num_streams, key, file)
        read = reader_for(path, self.config)
        last_record = None
        is_taken = True  # of a document in which reading resumes
        two_strands = self.config.fasta.reverse_complement
        try:
            for part in read(request, position):
                last_record = part.record
                if part.starts:
                    is_taken = self._split.takes(part.data, has_two_strands=two_strands)
                if is_taken and self._is_encodable(part, path):
                    yield part
        except DataError as error:
            self._report(error)
        except READ_ERRORS as error:
            where = "cannot be read" if last_record is None else f"damaged or cut off after record {last_record + 1}"
            self._report(DataError(f"{path}: {where}: {reason_of(error)}"))

    def _is_encodable(self, part: Part, path: str) -> bool:
        """Whether no byte of the part is needed for BOS or EOS; otherwise the error is reported."""
        for value in self._forbidden:
            if value in part.data:
                place = part.offset + part.data.index(value)
                self._report(
                    DataError(
                        f"{path}: record {part.record + 1} holds the byte {value[0]} at {place}, which a vocabulary of "
                        f"{self._vocab_size} uses for BOS or EOS; take a model with vocab_size 258 for binary data"
                    )
                )
                return False
        return True
