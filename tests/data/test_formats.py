"""Every format, from real files, plain and compressed; read whole and from every place where reading may stop."""

import gzip
import json
import lzma
import re
import tracemalloc
from pathlib import Path

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from data_corpora import COMPRESS, random_texts, write_jsonl

from hnet_lm.data import DataConfig, DataLoader, FastaConfig, SourceConfig, documents
from hnet_lm.data.formats import reader_for
from hnet_lm.data.formats.fasta import COMPLEMENT, PIECE_BYTES
from hnet_lm.data.parts import PART_BYTES, FileRequest, Part
from hnet_lm.errors import DataError

TEXTS = random_texts(30)


def read(source: SourceConfig) -> list[bytes]:
    return [document.data for document in documents(DataConfig((source,)))]


def parts_from(source: SourceConfig, position: object = None) -> list[Part]:
    def fail(error: DataError) -> None:
        raise error

    request = FileRequest(source.path, source, fail)
    return list(reader_for(source.path, source)(request, position))  # pyright: ignore[reportArgumentType]  a position from JSON


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


ARROW_TYPES = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.binary(),
    pa.large_binary(),
    pa.binary_view(),
    pa.binary(3),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.int32(), pa.large_binary()),
    pa.json_(),
]


@pytest.mark.parametrize("kind", ARROW_TYPES, ids=str)
def test_every_text_type_of_arrow(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [b"one", b"two", b"one", b"{6}"]
    if isinstance(kind, pa.BaseExtensionType):
        column = pa.ExtensionArray.from_storage(kind, pa.array(texts, pa.binary()).cast(kind.storage_type))
    elif pa.types.is_dictionary(kind):
        values = pa.array(texts, pa.binary()).dictionary_encode()
        column = pa.DictionaryArray.from_arrays(
            values.indices.cast(kind.index_type), values.dictionary.cast(kind.value_type)
        )
    else:
        column = pa.array(texts if "binary" in str(kind) else [text.decode() for text in texts], kind)
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"text": column}), path, row_group_size=3)
    assert pq.read_schema(path).field("text").type in (kind, pa.dictionary(pa.int32(), pa.binary()))
    assert read(SourceConfig(str(path))) == texts
    assert_resumes_anywhere(SourceConfig(str(path)))


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()], ids=str)
def test_parquet_text_that_is_not_utf8_is_its_bytes(tmp_path: Path, kind: pa.DataType) -> None:
    texts = [b"good", b"caf\xe9", b"\xff\x00", b"fine"]
    raw = pa.array(texts, pa.binary() if kind == pa.string() else pa.large_binary())
    path = tmp_path / "corpus.parquet"
    pq.write_table(pa.table({"text": pa.Array.from_buffers(kind, len(texts), raw.buffers())}), path)
    assert read(SourceConfig(str(path))) == texts


@pytest.mark.parametrize("suffix", COMPRESS)
def test_json_lines_end_at_line_feeds_only(tmp_path: Path, suffix: str) -> None:
    texts = ["one\u2028two", "three\u2029\u0085four", "five"]
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in texts]
    path = tmp_path / f"corpus.jsonl{suffix}"
    path.write_bytes(COMPRESS[suffix](("\ufeff" + "\r\n".join(lines) + "\r\n\ufeff" + lines[0]).encode()))
    assert read(SourceConfig(str(path))) == [text.encode() for text in [*texts, texts[0]]]
    assert_resumes_anywhere(SourceConfig(str(path)))


def one_line(num_bases: int) -> bytes:
    letters = b"ACGTacgtNNNNNGATTACARYK"
    return b"\xef\xbb\xbf>chr1 on one line\n" + (letters * (num_bases // len(letters) + 1))[:num_bases]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"  \t\n>two\nACGT"])
@pytest.mark.parametrize(
    "options",
    [FastaConfig(), FastaConfig(n_runs="keep", window=99_999), FastaConfig(n_runs="drop", window=PIECE_BYTES)],
)
def test_a_record_on_one_line_is_the_same_as_wrapped(tmp_path: Path, options: FastaConfig, end: bytes) -> None:
    header, _, bases = one_line(3 * PIECE_BYTES + 5).partition(b"\n")
    wrapped, whole = tmp_path / "wrapped.fa", tmp_path / "whole.fa"
    wrapped.write_bytes(header + b"\n" + b"\n".join(bases[i : i + 80] for i in range(0, len(bases), 80)) + end)
    whole.write_bytes(header + b"\n" + bases + end)
    found = read(SourceConfig(str(whole), fasta=options))
    assert found == read(SourceConfig(str(wrapped), fasta=options))
    assert len(found) >= 2
    source = SourceConfig(str(whole), fasta=options)
    parts = parts_from(source)
    for number in {0, 1, len(parts) // 2, len(parts) - 1}:
        assert parts_from(source, json.loads(json.dumps(parts[number].resume))) == parts[number + 1 :]


@pytest.mark.parametrize("shift", range(-4, 4))
def test_what_stands_where_a_long_line_is_cut(tmp_path: Path, shift: int) -> None:
    """Ends of lines, runs of N, spaces and wrong letters around the end of a piece."""
    path = tmp_path / "genome.fa"
    bases = b"A" * (PIECE_BYTES + shift)
    for middle, wanted in ((b"NN", [bases, b"CC"]), (b"\r\n", [bases + b"CC"]), (b"  \n", [bases + b"CC"])):
        path.write_bytes(b">x\n" + bases + middle + b"CC\n")
        assert read(SourceConfig(str(path))) == wanted
        assert_resumes_anywhere(SourceConfig(str(path)))
    for middle in (b" ", b"!", b" \t"):
        path.write_bytes(b">x\n" + bases + middle + b"CC\n>y\nGG\n")
        with pytest.raises(DataError, match=r"genome.fa:2: '[ !\\t]+' is not a nucleotide code"):
            read(SourceConfig(str(path)))


def test_a_header_longer_than_a_piece(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(b">" + b"long " * PIECE_BYTES + b"\nACGT\n>" + b"ACGT" * PIECE_BYTES)
    assert read(SourceConfig(str(path))) == [b"ACGT"]


def test_a_record_on_one_line_is_never_held_whole(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    num_bases = 8_000_000
    path.write_bytes(one_line(num_bases))
    config = DataConfig(
        (SourceConfig(str(path), fasta=FastaConfig(window=10_000)),), tokens_per_batch=8192, shuffle_bytes=100_000
    )
    with DataLoader(config) as loader:
        next(loader)  # what is imported on the way is not counted
    tracemalloc.start()
    try:
        with DataLoader(config) as loader:
            for _ in range(30):
                next(loader)
            state = loader.state_dict()
        with DataLoader(config) as loader:
            loader.load_state_dict(state)
            next(loader)
        assert tracemalloc.get_traced_memory()[1] < num_bases // 2
    finally:
        tracemalloc.stop()


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


def hub_directory(folder: Path, number: int, card: str = "") -> Path:
    folder.mkdir()
    write_jsonl(folder / "train.jsonl", [f"text {i}" for i in range(number)])
    if card:
        (folder / "README.md").write_text(card)
    return folder


CARD = """---
dataset_info:
  features:
  - name: text
    dtype: string
  splits:
  - name: train
    num_bytes: 1000
    num_examples: 40
---
"""


@pytest.mark.parametrize(
    ("rows", "wanted"),
    [
        ("[:10]", range(10)),
        ("[10:20]", range(10, 20)),
        ("[35:]", range(35, 40)),
        ("[:95%]", range(38)),
        ("[95%:]", range(38, 40)),
        ("[-5:]", range(35, 40)),
        ("[10%:-50%]", range(4, 20)),
        ("", range(40)),
    ],
)
def test_rows_of_a_hub_split(tmp_path: Path, rows: str, wanted: range) -> None:
    directory = hub_directory(tmp_path / "data", 40, CARD)
    source = SourceConfig(f"hf:{directory}", split=f"train{rows}")
    assert read(source) == [f"text {number}".encode() for number in wanted]
    parts = parts_from(source)
    position = json.loads(json.dumps(parts[0].resume))
    assert parts_from(source, position) == parts[1:]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("[:95%]", "the number of rows of 'train' is not known"),
        ("[-5:]", "the number of rows of 'train' is not known"),
        ("[20:10]", "the slice of 'train' holds no rows"),
        ("[:120%]", "120 % is more than there is"),
        ("[:x]", "must be a split, or rows of one"),
    ],
)
def test_rows_that_there_are_not(tmp_path: Path, rows: str, message: str) -> None:
    directory = hub_directory(tmp_path / "data", 30)
    with pytest.raises(DataError, match=re.escape(message)):
        read(SourceConfig(f"hf:{directory}", split=f"train{rows}"))
