"""Each damage: one clear error with file and line, or skipped and counted where configured."""

import gzip
import itertools
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_corpora import COMPRESS, random_texts, write_jsonl

from hnet_lm.data import DataConfig, DataLoader, SourceConfig, documents
from hnet_lm.data.error_report import ErrorReport
from hnet_lm.errors import DataError


def write(name: str, content: str | bytes) -> Callable[[Path], Path]:
    def to(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def write_parquet(name: str, table: pa.Table) -> Callable[[Path], Path]:
    def to(folder: Path) -> Path:
        pq.write_table(table, folder / name)
        return folder / name

    return to


DAMAGED = {
    "not json": (write("a.jsonl", '{"text": "ok"}\n{"text": \n{"text": "two"}\n'), r"a.jsonl:2: not JSON: .*", 2),
    "not utf-8": (write("a.jsonl", b'{"text": "\xff"}\n'), r"a.jsonl:1: not UTF-8 at byte 10", 0),
    "no object": (write("a.jsonl", '{"text": "ok"}\n[1]\n'), r"a.jsonl:2: not a JSON object but list", 1),
    "no field": (write("a.jsonl", '\n{"body": "x"}\n'), r"a.jsonl:2: no field 'text'; the record has 'body'", 0),
    "no string": (write("a.jsonl", '{"text": 5}\n'), r"a.jsonl:1: field 'text' is not a string but int", 0),
    "half a pair": (write("a.jsonl", '{"text": "\\ud800"}\n'), r"a.jsonl:1: field 'text' holds half of a surrogate", 0),
    "nested": (write("a.jsonl", "[" * 10_000_000), r"a.jsonl:1: ", 0),
    "empty": (write("a.txt", ""), r"a.txt is empty", 0),
    "empty gz": (write("a.jsonl.gz", gzip.compress(b"")), r"a.jsonl.gz is empty", 0),
    "no header": (write("a.fa", "ACGT\n>x\nAC\n"), r"a.fa:1: bases before the first header", 1),
    "strange letter": (write("a.fa", ">x\nACGT\nAC!T\nAA\n>y\nGG\n"), r"a.fa:3: '!' is not a nucleotide code", 2),
    "protein": (write("a.fa", ">x\nMKLV\n"), r"a.fa:2: 'L' is not a nucleotide code", 0),
    "no gzip": (write("a.txt.gz", "plain"), r"a.txt.gz: cannot be read: Not a gzipped file", 0),
    "no xz": (write("a.txt.xz", "plain"), r"a.txt.xz: cannot be read: Input format not supported", 0),
    "no zst": (write("a.txt.zst", "plain"), r"a.txt.zst: cannot be read: damaged Zstandard data", 0),
    "no parquet": (write("a.parquet", "plain"), r"a.parquet: not a readable parquet file", 0),
    "no column": (
        write_parquet("a.parquet", pa.table({"id": [1], "body": ["x"]})),
        r"a.parquet: no column 'text'; the file has id, body",
        0,
    ),
    "no text column": (write_parquet("a.parquet", pa.table({"text": [1]})), r"'text' holds neither text nor bytes", 0),
    "null": (
        write_parquet("a.parquet", pa.table({"text": ["x", None]})),
        r"a.parquet: row 2: column 'text' is null",
        1,
    ),
    "no rows": (
        write_parquet("a.parquet", pa.table({"text": pa.array([], pa.string())})),
        r"a.parquet is empty: it has no rows",
        0,
    ),
}


@pytest.mark.parametrize("name", DAMAGED)
def test_damage_is_one_line_or_is_skipped(tmp_path: Path, name: str, caplog: pytest.LogCaptureFixture) -> None:
    make, message, num_documents = DAMAGED[name]
    source = SourceConfig(str(make(tmp_path)))
    with pytest.raises(DataError, match=message) as raised:
        list(documents(DataConfig((source,))))
    assert "\n" not in str(raised.value)
    assert len(list(documents(DataConfig((source,), on_error="skip")))) == num_documents
    assert str(raised.value) in caplog.text


def test_a_damaged_file_of_a_dataset_directory(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    lines = [json.dumps({"text": text}) for text in random_texts(5)]
    (tmp_path / "data" / "train.jsonl").write_text("\n".join([*lines, '{"text": ', *lines]))
    source = SourceConfig(f"hf:{tmp_path / 'data'}")
    with pytest.raises(
        DataError, match=r"hf:.*data: (the split 'train' cannot be|damaged or cut off after row)"
    ) as raised:
        list(documents(DataConfig((source,))))
    assert "\n" not in str(raised.value)
    assert len(list(documents(DataConfig((source,), on_error="skip")))) <= 5


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
def test_json_lines_in_another_encoding_are_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "one"}\n', encoding=encoding)
    with pytest.raises(DataError, match=f"a.jsonl: is text in {encoding.upper()}; save it as UTF-8"):
        list(documents(DataConfig((SourceConfig(str(path)),))))


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
@pytest.mark.parametrize("name", ["a.jsonl", "a.txt", "a.fa", "a.parquet"])
def test_truncated_compressed_files(tmp_path: Path, suffix: str, name: str) -> None:
    content = {
        "a.jsonl": b"".join(b'{"text": "%d"}\n' % number for number in range(100_000)),
        "a.txt": os.urandom(3_000_000),
        "a.fa": b">x\n" + b"ACGT" * 20 + b"\n",
        "a.parquet": os.urandom(100_000),
    }[name]
    path = tmp_path / (name + suffix)
    whole = COMPRESS[suffix](content)
    path.write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(
        DataError, match=rf"{name}{suffix}: (cannot be read|damaged or cut off after record \d+): .*end"
    ):
        list(documents(DataConfig((SourceConfig(str(path)),))))


def test_what_precedes_the_damage_is_kept(tmp_path: Path) -> None:
    lines = [json.dumps({"text": text}) + "\n" for text in random_texts(2000)]
    whole = gzip.compress("".join(lines).encode())
    (tmp_path / "a.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    write_jsonl(tmp_path / "b.jsonl", ["good"])
    found = list(documents(DataConfig((SourceConfig(str(tmp_path / "*")),), on_error="skip")))
    assert 100 < len(found) < 2000
    assert [document.data.decode() for document in found[:-1]] == random_texts(2000)[: len(found) - 1]
    assert found[-1].data == b"good"


def test_a_document_of_which_a_part_is_damaged_is_left_out_whole(tmp_path: Path) -> None:
    """What was read of it neither counts by itself nor runs into the next document."""
    long = os.urandom(3_000_000)
    whole = gzip.compress(long)
    (tmp_path / "a.txt.gz").write_bytes(whole[: len(whole) * 3 // 4])
    (tmp_path / "b.txt").write_bytes(b"good")
    (tmp_path / "c.bin").write_bytes(b"x" * 1_500_000 + b"\xff" + b"x" * 1_500_000)
    (tmp_path / "d.txt").write_bytes(b"last")
    config = DataConfig((SourceConfig(str(tmp_path / "*")),), on_error="skip")
    assert [document.data for document in documents(config, vocab_size=256)] == [b"good", b"last"]
    report = ErrorReport("skip", lambda line: None)
    assert len(list(documents(config, report=report))) == 3
    assert report.num_skipped == 1


def test_skipped_records_are_counted_across_a_resume(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("".join('{"text": "abcdefg"}\n' + ("oops\n" if number % 10 == 0 else "") for number in range(100)))
    config = DataConfig(
        (SourceConfig(str(path)),), tokens_per_batch=80, max_length=80, shuffle_bytes=80, on_error="skip"
    )
    loader = DataLoader(config)
    list(itertools.islice(loader, 10))
    assert loader.num_skipped == 10
    resumed = DataLoader(config)
    resumed.load_state_dict(loader.state_dict())
    list(itertools.islice(resumed, 5))
    assert resumed.num_skipped == 15


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("{tmp}/none.txt", r"none.txt: cannot be read: No such file or directory"),
        ("{tmp}/*.txt", r"no file matches .*\*.txt"),
        ("{tmp}", r"is a directory; name its files"),
        ("sample:french", r"sample:french does not exist; there are sample:english, "),
        ("memory://nothing/*.txt", r"no file matches memory://nothing"),
        ("memory://nothing.txt", r"memory://nothing.txt: cannot be read"),
        ("nosuchprotocol://a/*.txt", r"cannot list nosuchprotocol://a"),
        ("nosuchprotocol://a.txt", r"nosuchprotocol://a.txt"),
        ("hf:{tmp}/none", r"hf:.*none: the split 'train' cannot be opened"),
    ],
)
def test_paths_that_are_not_there(tmp_path: Path, path: str, message: str) -> None:
    source = SourceConfig(path.format(tmp=tmp_path))
    with pytest.raises(DataError, match=message):
        list(documents(DataConfig((source,))))
    with pytest.raises(DataError, match=message):
        next(DataLoader(DataConfig((source,))))


def test_unreadable_file(tmp_path: Path) -> None:
    (tmp_path / "folder.txt").mkdir()
    source = SourceConfig(str(tmp_path / "folder.txt" / "deeper" / "a.txt"))
    with pytest.raises(DataError, match=r"a.txt: cannot be read: No such file"):
        list(documents(DataConfig((source,))))
    closed = tmp_path / "closed.txt"
    closed.write_text("x")
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match=r"closed.txt: cannot be read: Permission denied"):
        list(documents(DataConfig((SourceConfig(str(closed)),))))


def test_no_documents_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('\n{"text": ""}\n')
    with pytest.raises(DataError, match=r"a.jsonl: no documents$"):
        next(DataLoader(DataConfig((SourceConfig(str(path)),))))
    path.write_text("oops\n")
    with pytest.raises(DataError, match=r"a.jsonl: no documents$"):
        next(DataLoader(DataConfig((SourceConfig(str(path)),), on_error="skip")))


def test_more_streams_than_documents(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "a.jsonl", ["one", "two"])
    loader = DataLoader(DataConfig((SourceConfig(str(path)),), tokens_per_batch=8, max_length=8, streams=3))
    with pytest.raises(DataError, match=r"no documents for stream 3 of 3; lower data.streams"):
        list(itertools.islice(loader, 3))


@pytest.mark.parametrize(
    ("package", "name", "extra"),
    [("pyarrow", "a.parquet", "train"), ("zstandard", "a.txt.zst", "train"), ("fsspec", "memory://a.txt", "train")],
)
def test_a_package_that_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, name: str, extra: str
) -> None:
    leaf = {"pyarrow": "data.formats.parquet", "zstandard": "inputs.zstd", "fsspec": "inputs.remote"}[package]
    monkeypatch.delitem(sys.modules, f"hnet_lm.{leaf}", raising=False)
    for module in [module for module in sys.modules if module.partition(".")[0] == package]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "site-packages" not in entry])
    path = name if "://" in name else str(write(name, b"x")(tmp_path))
    with pytest.raises(DataError, match=rf"needs the package {package}: pip install 'hnet-lm\[{extra}\]'"):
        list(documents(DataConfig((SourceConfig(path),))))


def test_rows_that_are_not_there_are_missed(tmp_path: Path) -> None:
    """pyarrow gives what it finds in a damaged group of rows, without a word."""
    damaged = Path(__file__).parents[1] / "fuzz" / "corpus" / "parquet" / "a-row-group-without-some-of-its-rows"
    (tmp_path / "a.parquet").write_bytes(damaged.read_bytes())
    with pytest.raises(DataError, match=r"a.parquet: damaged: row group 3 has 0 rows and should have 4"):
        list(documents(DataConfig((SourceConfig(str(tmp_path / "a.parquet")),))))
