"""The text of `hnet-lm chunks`: an argument, a document of a file, or a region of DNA with its location."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, islice

from hnet_lm.cli.options import require_at_least
from hnet_lm.cli.sources import SourceOptions
from hnet_lm.cli.terminal import printable, typed_bytes
from hnet_lm.data import DataConfig, SourceConfig, documents
from hnet_lm.data.files import paths_of
from hnet_lm.data.formats import format_of
from hnet_lm.errors import DataError, UserError
from hnet_lm.genome import Region, read_records, stretch
from hnet_lm.inputs import STANDARD_INPUT, read_bytes
from hnet_lm.inspect.place import Place


@dataclass(frozen=True)
class Text:
    """A text, or its beginning; `part` says which, and is empty for the whole."""

    data: bytes
    name: str
    part: str = ""
    place: Place | None = None
    """For DNA from FASTA."""

    @property
    def is_whole(self) -> bool:
        return not self.part

    @property
    def title(self) -> str:
        if self.place is not None:
            return self.place.name(0, len(self.data))
        return self.name if self.is_whole else f"{self.name} ({len(self.data):,} bytes of it)"


@dataclass(frozen=True)
class TextOptions:
    """Which text."""

    file: str | None = None
    """A file of text, FASTA, JSONL or any bytes, compressed or not; - for standard input; or sample:english (chinese,
    code, dna)."""
    document: int = 0
    """Which document of the file, counted from 0: a line of JSONL, a record of FASTA."""
    region: str | None = None
    """A sequence or region of FASTA, such as chr20:59,000,001-59,100,000."""
    max_bytes: int = 1_000_000
    """Read at most this many bytes, from the beginning."""

    def read(self, text: str | None, sources: SourceOptions) -> Text:
        """The text given as an argument, or else from the file, or else from standard input."""
        require_at_least(1, max_bytes=self.max_bytes)
        require_at_least(0, document=self.document)
        if self.region is not None and (self.file is None or self.document):
            raise UserError("--region goes with --file FASTA, and without --document")
        if text is not None:
            if self.file is not None:
                raise UserError("a text and --file are given; leave out one")
            return self._first(typed_bytes(text), "text")
        if self.file is None:
            if sys.stdin.isatty():
                raise UserError("no text: give one as an argument, by --file or on standard input")
            return self._first(read_bytes(STANDARD_INPUT), "standard input")
        source = sources.source(self.file, "train")
        if _is_fasta(source):
            return self._of_region(self._find_region(source))
        if self.region is not None:
            raise UserError(f"--region: {self.file} is not FASTA; if it is, give --format fasta")
        document = next(islice(documents(DataConfig((source,)), report=sources.report()), self.document, None), None)
        if document is None:
            raise self._no_document()
        is_one_of_many = self.document > 0 or source.format in ("jsonl", "parquet")
        name = printable(self.file) + (f", document {self.document}" if is_one_of_many else "")
        return self._first(document.data, name)

    def _find_region(self, source: SourceConfig) -> Region:
        assert self.file is not None
        records: Iterator[Region] = chain.from_iterable(map(read_records, paths_of(source)))
        if self.region is not None:
            return stretch(records, self.region, self.file)
        record = next(islice(records, self.document, None), None)
        if record is None:
            raise self._no_document()
        return record

    def _no_document(self) -> DataError:
        return DataError(f"{self.file}: has no document {self.document} (they are counted from 0)")

    def _first(self, data: bytes, name: str) -> Text:
        """The part of the text that is read."""
        if len(data) <= self.max_bytes:
            return Text(data, name)
        return Text(data[: self.max_bytes], name, f"only the first {self.max_bytes:,} of {len(data):,} bytes are")

    def _of_region(self, region: Region) -> Text:
        place = Place(region.sequence, region.start)
        if len(region.bases) <= self.max_bytes:
            return Text(region.bases, region.sequence, place=place)
        part = f"only a stretch of {self.max_bytes:,} bases ({place.name(0, self.max_bytes)}) is"
        return Text(region.bases[: self.max_bytes], region.sequence, part, place)


def _is_fasta(source: SourceConfig) -> bool:
    if source.format == "auto":  # a sample, or a dataset of the hub
        paths = paths_of(source)
        return len(paths) == 1 and format_of(paths[0], source) == "fasta"
    return source.format == "fasta"
