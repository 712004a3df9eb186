"""Every input opens in one way: whatever its compression and its name, whether it can seek or not."""

import bz2
import gzip
import io
import lzma
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings

from hnet_lm.errors import ConfigError, DataError
from hnet_lm.inputs import READ_ERRORS, open_input, opened, read_bytes
from mutated import mutated
from thoroughness import examples

DATA = b"".join(b"line %d of a text\n" % number for number in range(20_000))


def long_window(data: bytes) -> bytes:
    options = zstandard.ZstdCompressionParameters.from_level(3, window_log=31, enable_ldm=True)
    frame = zstandard.ZstdCompressor(compression_params=options).compressobj()
    return frame.compress(data) + frame.flush()


def in_blocks(compress: Callable[[bytes], bytes], last: bytes = b"") -> Callable[[bytes], bytes]:
    """Many members in one file, as bgzip, pbzip2 and pzstd write them, and an empty one at the end."""
    return lambda data: b"".join(compress(data[i : i + 65_280]) for i in range(0, len(data), 65_280)) + compress(last)


SKIPPABLE = b"\x5a\x2a\x4d\x18" + (4).to_bytes(4, "little") + b"size"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": bytes,
    "gzip": gzip.compress,
    "bgzip": in_blocks(gzip.compress),
    "xz": lzma.compress,
    "bzip2": bz2.compress,
    "pbzip2": in_blocks(bz2.compress),
    "zstd": zstandard.compress,
    "zstd --long=31": long_window,
    "pzstd": in_blocks(lambda data: SKIPPABLE + zstandard.compress(data)),
    "seekable zstd": lambda data: zstandard.compress(data) + SKIPPABLE,
}
NAMES = ("corpus.txt", "no suffix", "corpus.vcf.bgz", "corpus.txt.zst", "corpus.gz.xz")


@pytest.mark.parametrize("kind", COMPRESS)
def test_compression_is_told_by_the_first_bytes(kind: str, tmp_path: Path) -> None:
    stored = COMPRESS[kind](DATA)
    for name in NAMES:
        if kind == "none" and name not in NAMES[:2]:
            continue
        (tmp_path / name).write_bytes(stored)
        for offset in (0, 1, 100_000, len(DATA)):
            with open_input(tmp_path / name, offset) as stream:
                assert stream.read() == DATA[offset:], (name, offset)


@pytest.mark.parametrize("start", [b"BZh", b"BZhello", b"(\xb5/", b"\x1f\x8b", b"\xfd7zXZ", b""])
def test_what_only_looks_like_the_beginning_of_a_compressed_file_is_itself(start: bytes, tmp_path: Path) -> None:
    (tmp_path / "text").write_bytes(start)
    assert read_bytes(tmp_path / "text") == start


@pytest.mark.parametrize("suffix", [".gz", ".bgz", ".xz", ".bz2", ".zst"])
def test_a_file_that_is_not_what_its_name_says_is_damaged(suffix: str, tmp_path: Path) -> None:
    (tmp_path / f"text{suffix}").write_bytes(b"not compressed at all, whatever the name says")
    with pytest.raises(ConfigError, match=rf"text{suffix}: cannot be read: ") as raised:
        read_bytes(tmp_path / f"text{suffix}", error=ConfigError)
    assert "\n" not in str(raised.value)


@pytest.fixture(params=["named pipe", "descriptor", "standard input", "standard input, redirected"])
def pipe(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], str]:
    """A function that sends bytes, the first of them one by one, and gives the path to read them from."""

    def send(sink: int, data: bytes) -> None:
        with open(sink, "wb", buffering=0) as file:
            for i in range(min(len(data), 10)):
                file.write(data[i : i + 1])
            rest = memoryview(data)[10:]
            while rest:
                rest = rest[file.write(rest) or 0 :]

    def from_descriptor(data: bytes) -> int:
        source, sink = os.pipe()
        threading.Thread(target=send, args=(sink, data), daemon=True).start()
        request.addfinalizer(lambda: os.close(source) if request.param == "descriptor" else None)
        return source

    def path_for(data: bytes) -> str:
        match request.param:
            case "named pipe":
                path = tmp_path / "pipe"
                os.mkfifo(path)
                threading.Thread(target=lambda: send(os.open(path, os.O_WRONLY), data), daemon=True).start()
                return str(path)
            case "descriptor":
                return f"/dev/fd/{from_descriptor(data)}"
            case "standard input":
                monkeypatch.setattr(sys, "stdin", open(from_descriptor(data)))  # noqa: SIM115 - the fixture ends with the test
            case _:
                (tmp_path / "file").write_bytes(b"read before\n" + data)
                file = open(tmp_path / "file", "rb")  # noqa: SIM115 - the fixture ends with the test
                file.readline()
                monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(file))
        return "-"

    return path_for


@pytest.mark.parametrize("kind", ["none", "bgzip", "pzstd", "xz"])
@pytest.mark.parametrize("offset", [0, 1000])
def test_pipes_need_no_seek(pipe: Callable[[bytes], str], kind: str, offset: int) -> None:
    with open_input(pipe(COMPRESS[kind](DATA)), offset) as stream:
        assert stream.read() == DATA[offset:]


def test_short_and_empty_pipes(pipe: Callable[[bytes], str]) -> None:
    assert read_bytes(pipe(b"x")) == b"x"


def test_standard_input_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"text")))
    assert read_bytes("-", limit=2) == b"te"
    assert not sys.stdin.closed
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(DataError, match="-: cannot be read: standard input is closed"):
        read_bytes("-")


def damaged(make: Callable[[Path], object]) -> Callable[[Path], Path]:
    def to(folder: Path) -> Path:
        make(folder / "input")
        return folder / "input"

    return to


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "a" * 64 + "\nsize 12\n"
UNREADABLE: dict[str, tuple[Callable[[Path], Path], str]] = {
    "nothing": (lambda folder: folder / "input", "cannot be read: No such file or directory"),
    "a folder": (damaged(Path.mkdir), "cannot be read: Is a directory"),
    "below a file": (lambda folder: Path(__file__) / "input", "cannot be read: Not a directory"),
    "a link in a circle": (damaged(lambda path: path.symlink_to(path)), "cannot be read: Too many levels of symbolic"),
    "a zero byte": (lambda folder: folder / "in\0put", "cannot be read: embedded null byte"),
    "a name too long": (lambda folder: folder / ("x" * 300), "cannot be read: File name too long"),
    "a pointer": (
        damaged(lambda path: path.write_text(POINTER)),
        "is a Git LFS pointer, not the file itself",
    ),
    "half of a gzip file": (damaged(lambda path: path.write_bytes(gzip.compress(DATA)[:999])), "cannot be read: Comp"),
    "half of a zstd file": (
        damaged(lambda path: path.write_bytes(zstandard.compress(DATA)[:999])),
        "ends inside a",
    ),
}


@pytest.mark.parametrize("kind", UNREADABLE)
def test_what_cannot_be_read_is_one_line(kind: str, tmp_path: Path) -> None:
    make, message = UNREADABLE[kind]
    path = make(tmp_path)
    with pytest.raises(DataError, match=message) as raised:
        read_bytes(path)
    assert str(raised.value).startswith(f"{path}: ")
    assert "\n" not in str(raised.value)


@pytest.mark.scaled
@pytest.mark.parametrize("kind", [kind for kind in COMPRESS if "long" not in kind])
def test_damaged_bytes_are_read_errors_and_nothing_else(kind: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("fuzz") / "input"

    @settings(max_examples=examples(20), deadline=None, database=None)
    @given(mutated(COMPRESS[kind](DATA[:300])))
    def check(data: bytes) -> None:
        path.write_bytes(data)
        try:
            with open_input(path) as stream:
                stream.read(1 << 20)
        except (*READ_ERRORS, DataError):
            return

    check()


def test_errors_of_what_is_done_with_the_bytes_are_not_renamed(tmp_path: Path) -> None:
    (tmp_path / "input").write_bytes(b"x")
    with pytest.raises(ZeroDivisionError), opened(tmp_path / "input") as stream:
        print(1 / (len(stream.read()) - 1))
