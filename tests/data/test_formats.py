"""Every format, from real files, plain and compressed; read whole and from every place where reading may stop."""

import gzip
import json
import lzma
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from data_corpora import COMPRESS, random_texts, write_jsonl

from hnet_lm.data import DataConfig, FastaConfig, SourceConfig, documents
from hnet_lm.data.formats import reader_for
from hnet_lm.data.formats.fasta import COMPLEMENT
from hnet_lm.data.parts import PART_BYTES, FileRequest, Part
from hnet_lm.errors import DataError

TEXTS = random_texts(30)


def read(source: SourceConfig) -> list[bytes]:
    return [document.data for document in documents(DataConfig((source,)))]


def parts_from(source: SourceConfig, position: object = None) -> list[Part]:
    def fail(error: DataError) -> None:
        raise error

    request = FileRequest(source.path, source, fail)
    return list(reader_for(source.path, source)(request, position))  # pyright: ignore[reportArgumentType]


def assert_resumes_anywhere(source: SourceConfig) -> None:
    parts = parts_from(source)
    for number, part in enumerate(parts):
        position = json.loads(json.dumps(part.resume))
        assert parts_from(source, position) == parts[number + 1 :]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_jsonl(tmp_path: Path, suffix: str) -> None:
    plain = write_jsonl(tmp_path / "plain.jsonl", TEXTS).read_bytes()
    path = tmp_path / f"corpus.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix](plain))
    assert read(SourceConfig(str(path))) == [text.encode() for text in TEXTS]
    assert_resumes_anywhere(SourceConfig(str(path)))


def test_jsonl_takes_the_named_field_and_passes_over_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"text": "no", "body": "one\\u4e2d"}\n\n{"body": ""}\n{"body": "two"}')
    assert read(SourceConfig(str(path), field="body")) == ["one中".encode(), b"two"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_text_file_is_one_document(tmp_path: Path, suffix: str) -> None:
    data = "".join(TEXTS).encode() * 400
    assert len(data) > 2 * PART_BYTES
    path = tmp_path / f"book.txt{suffix}"
    path.write_bytes(COMPRESS[suffix](data))
    source = SourceConfig(str(path))
    assert read(source) == [data]
    assert len(parts_from(source)) > 2
    assert_resumes_anywhere(source)


@pytest.mark.parametrize("suffix", COMPRESS)
def test_text_with_separator(tmp_path: Path, suffix: str) -> None:
    long = "".join(TEXTS) * 300
    assert len(long.encode()) > 2 * PART_BYTES
    path = tmp_path / f"corpus.txt{suffix}"
    wanted = [*TEXTS, long, "last"]
    path.write_bytes(COMPRESS[suffix]("<|endoftext|>".join(["", *wanted, ""]).encode()))
    source = SourceConfig(str(path), separator="<|endoftext|>")
    assert read(source) == [text.encode() for text in wanted]
    assert_resumes_anywhere(source)


@pytest.mark.parametrize("shift", range(-14, 4))
def test_separator_across_two_reads(tmp_path: Path, shift: int) -> None:
    path = tmp_path / "corpus.txt"
    first = b"a" * (PART_BYTES + shift)
    path.write_bytes(first + b"<|endoftext|>" + b"b")
    source = SourceConfig(str(path), separator="<|endoftext|>")
    assert read(source) == [first, b"b"]
    assert_resumes_anywhere(source)


@pytest.mark.parametrize("size", [1, 2, PART_BYTES - 1, PART_BYTES, PART_BYTES + 1, 2 * PART_BYTES + 1])
def test_raw_bytes_of_any_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "data.bin"
    data = bytes(range(256)) * (size // 256 + 1)
    path.write_bytes(data[:size])
    assert read(SourceConfig(str(path))) == [data[:size]]
    assert_resumes_anywhere(SourceConfig(str(path)))


@pytest.mark.parametrize("suffix", COMPRESS)
@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.binary()])
def test_parquet(tmp_path: Path, suffix: str, kind: pa.DataType) -> None:
    plain = tmp_path / "plain"
    column = pa.array([text.encode() for text in TEXTS], pa.binary()).cast(kind)
    pq.write_table(pa.table({"body": column, "id": list(range(len(TEXTS)))}), plain, row_group_size=7)
    path = tmp_path / f"corpus.parquet{suffix}"
    path.write_bytes(COMPRESS[suffix](plain.read_bytes()))
    source = SourceConfig(str(path), field="body")
    assert read(source) == [text.encode() for text in TEXTS]
    assert_resumes_anywhere(source)


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        (FastaConfig(), [b"ACGTAC", b"GGT", b"A", b"TTTT"]),
        (FastaConfig(fold_case=False), [b"ACGTac", b"ggt", b"A", b"TTTT"]),
        (FastaConfig(n_runs="drop"), [b"ACGTACGGTA", b"TTTT"]),
        (FastaConfig(n_runs="keep"), [b"ACGTACNNNNGGTNNA", b"NTTTTN"]),
        (FastaConfig(n_runs="keep", window=5), [b"ACGTA", b"CNNNN", b"GGTNN", b"A", b"NTTTT", b"N"]),
        (FastaConfig(window=2), [b"AC", b"GT", b"AC", b"GG", b"T", b"A", b"TT", b"TT"]),
        (FastaConfig(n_runs="drop", window=4), [b"ACGT", b"ACGG", b"TA", b"TTTT"]),
    ],
)
@pytest.mark.parametrize("suffix", COMPRESS)
def test_fasta(tmp_path: Path, suffix: str, options: FastaConfig, wanted: list[bytes]) -> None:
    path = tmp_path / f"genome.fa{suffix}"
    path.write_bytes(COMPRESS[suffix](b">one\nACGTacNN\nnnggt\nNNA\n\n>two\r\nNTTTTN\r\n"))
    source = SourceConfig(str(path), fasta=options)
    assert read(source) == wanted
    assert_resumes_anywhere(source)


def test_fasta_reads_some_documents_from_the_other_strand(tmp_path: Path) -> None:
    path = tmp_path / "genome.fasta"
    path.write_text("".join(f">{n}\nAACGN\n" for n in range(64)))
    source = SourceConfig(str(path), fasta=FastaConfig(n_runs="keep", reverse_complement=True))
    found = read(source)
    assert set(found) == {b"AACGN", b"NCGTT"}
    assert 16 < found.count(b"AACGN") < 48
    assert found == read(source)
    assert found != [document.data for document in documents(DataConfig((source,), seed=1))]


def test_complement_is_its_own_inverse() -> None:
    letters = b"ACGTNRYSWKMBDHVacgtnryswkmbdhv"
    assert letters.translate(COMPLEMENT).translate(COMPLEMENT) == letters
    assert b"RYKMBVDH".translate(COMPLEMENT) == b"YRMKVBHD"


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_several_members_in_one_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"book.txt{suffix}"
    path.write_bytes(b"".join(COMPRESS[suffix](piece) for piece in (b"one ", b"", b"two ", b"three")))
    assert read(SourceConfig(str(path))) == [b"one two three"]


@pytest.mark.parametrize("name", ["corpus.data", "corpus", "10:30.log", "a=b.py", "sample [1].csv", "données.txt"])
def test_a_file_of_an_unknown_suffix_is_its_bytes_and_format_overrides_it(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text('{"text": "one"}\n{"text": "two"}\n')
    assert read(SourceConfig(str(path))) == [path.read_bytes()]
    assert read(SourceConfig(str(path), format="jsonl")) == [b"one", b"two"]
    assert len(read(SourceConfig(str(path), separator="\n"))) == 2


@pytest.mark.parametrize("name", ["corpus.tar", "corpus.tar.gz", "corpus.ZIP", "corpus.arrow"])
def test_archives_are_refused_unless_their_own_bytes_are_meant(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(gzip.compress(b"packed") if name.endswith(".gz") else b"packed")
    with pytest.raises(DataError, match=rf"{name}: \.\w+ files are not read; unpack it first"):
        read(SourceConfig(str(path)))
    assert read(SourceConfig(str(path), format="bytes")) == [b"packed"]


def test_parquet_without_a_suffix_is_not_read_as_text(tmp_path: Path) -> None:
    path = tmp_path / "part-00000"
    pq.write_table(pa.table({"text": ["one"]}), path)
    with pytest.raises(DataError, match=r"part-00000: is a Parquet file, by its first bytes; say so by format"):
        read(SourceConfig(str(path)))
    assert read(SourceConfig(str(path), format="parquet")) == [b"one"]
    assert read(SourceConfig(str(path), format="bytes")) == [path.read_bytes()]


def test_globs_are_sorted_and_recursive(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name in ("c.txt", "a.txt", "b/a.txt", "b/other.md"):
        (tmp_path / name).write_text(name)
    assert read(SourceConfig(str(tmp_path / "**" / "*.txt"))) == [b"a.txt", b"b/a.txt", b"c.txt"]


def test_remote_files() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe("/corpus/b.jsonl.gz", gzip.compress(b'{"text": "three"}\n'))
    memory.pipe("/corpus/a.jsonl.xz", lzma.compress(b'{"text": "one"}\n{"text": "two"}\n'))
    memory.pipe("/corpus/c.jsonl.zst", zstandard.compress(b'{"text": "four"}\n'))
    assert read(SourceConfig("memory://corpus/*.jsonl.*")) == [b"one", b"two", b"three", b"four"]
    memory.pipe("/corpus/book.txt", b"x" * (PART_BYTES + 10))
    assert_resumes_anywhere(SourceConfig("memory://corpus/book.txt"))


def test_remote_parquet(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": TEXTS}), tmp_path / "corpus.parquet")
    assert read(SourceConfig(f"file://{tmp_path}/corpus.parquet")) == [text.encode() for text in TEXTS]


def test_hub_dataset_from_a_local_directory(tmp_path: Path) -> None:
    texts = [f"text {number}" for number in range(2500)]
    (tmp_path / "data").mkdir()
    write_jsonl(tmp_path / "data" / "train.jsonl", texts)
    source = SourceConfig(f"hf:{tmp_path / 'data'}")
    assert read(source) == [text.encode() for text in texts]
    parts = parts_from(source)
    for number in (0, 998, 999, 1000, 1001, 2499):
        position = json.loads(json.dumps(parts[number].resume))
        assert parts_from(source, position) == parts[number + 1 :]
