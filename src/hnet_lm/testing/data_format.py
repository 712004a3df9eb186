"""The laws of a data format: the same documents however they are read, and damage that is said and never crashes."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path

from hnet_lm.data import DATA_FORMATS, DataFormat, FileRequest, Part, Position, SourceConfig
from hnet_lm.errors import DataError
from hnet_lm.inputs import READ_ERRORS

NUM_DAMAGED = 12


def check_data_format(data_format: DataFormat, path: str | Path, documents: Sequence[bytes]) -> None:
    """`documents` are those of the file at `path`, at least three. Raises AssertionError with the broken law."""
    assert len(documents) > 2, "give a file of three documents or more"
    entry = DATA_FORMATS.written(data_format)
    assert DATA_FORMATS.parse(entry, "data.sources.format") == data_format, f"its entry {entry} gives other options"
    name = entry.pop("name")
    reader = _Reader(data_format, SourceConfig(str(path), format=name, options=entry))
    parts = list(reader.parts())
    _check_parts(parts)
    found = [data for _, data in _joined(parts)]
    assert found == list(documents), f"documents: {found!r} were read, and {list(documents)!r} are in the file"
    _check_resume(reader, parts)
    _check_streams(reader, parts)
    _check_damaged(data_format, Path(path))


class _Reader:
    def __init__(self, data_format: DataFormat, config: SourceConfig):
        self.data_format = data_format
        self.config = config

    def parts(self, position: Position | None = None, stream: int = 0, num_streams: int = 1) -> Iterator[Part]:
        request = FileRequest(self.config.path, self.config, _fail, stream, num_streams)
        return self.data_format.read(request, position)


def _fail(error: DataError) -> None:
    raise error


def _check_parts(parts: Sequence[Part]) -> None:
    before: Part | None = None
    for number, part in enumerate(parts):
        where = f"part {number}"
        assert part.data, f"{where} is empty; leave empty documents out"
        assert part.starts == (before is None or before.ends), f"{where}: `starts` does not follow from the one before"
        if part.starts:
            assert part.offset == 0, f"{where} starts a document at byte {part.offset}"
            assert before is None or part.record > before.record, f"{where}: numbers of records must rise"
        elif before is not None:
            assert part.record == before.record, f"{where} goes on with another record"
            assert part.data[0] == before.data[-1], f"{where} must repeat the last byte of the part before"
            assert part.offset == before.offset + len(before.data) - 1, f"{where} begins at the wrong byte"
        before = part
    assert before is None or before.ends, "the last part does not end its document"


def _joined(parts: Sequence[Part]) -> list[tuple[int, bytes]]:
    """The documents with the numbers of their records."""
    found: list[tuple[int, bytes]] = []
    for part in parts:
        if part.starts:
            found.append((part.record, part.data))
        else:
            found[-1] = (part.record, found[-1][1] + part.data[1:])
    return found


def _check_resume(reader: _Reader, parts: Sequence[Part]) -> None:
    for number, part in enumerate(parts):
        position = json.loads(json.dumps(part.resume))
        rest = list(reader.parts(position))
        assert rest == list(parts[number + 1 :]), f"resume: after part {number}, from {position}, other parts follow"


def _check_streams(reader: _Reader, parts: Sequence[Part]) -> None:
    wanted = _joined(parts)
    for num_streams in (2, 3):
        dealt = [_joined(list(reader.parts(None, stream, num_streams))) for stream in range(num_streams)]
        for stream, documents in enumerate(dealt):
            strange = [record for record, _ in documents if record % num_streams != stream]
            assert not strange, f"streams: records {strange} are not those of stream {stream} of {num_streams}"
        assert sorted(chain.from_iterable(dealt)) == wanted, (
            f"streams: dealt to {num_streams}, the documents are others"
        )


def _check_damaged(data_format: DataFormat, path: Path) -> None:
    """A file that is cut off anywhere is read, or is a DataError; nothing else."""
    data = path.read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        damaged = Path(folder) / path.name
        for i in range(NUM_DAMAGED):
            damaged.write_bytes(data[: len(data) * i // NUM_DAMAGED])
            source = SourceConfig(str(damaged))
            try:
                list(data_format.read(FileRequest(str(damaged), source, _fail), None))
            except (DataError, *READ_ERRORS):
                pass
            except Exception as error:
                raise AssertionError(f"damage: a file cut off is a {type(error).__name__}, not a DataError") from error
