"""Text that people edit, as their editors leave it."""

from pathlib import Path

import pytest
from hypothesis import given, settings

from hnet_lm.errors import ConfigError, DataError
from hnet_lm.inputs import decoded_lines, opened, read_lines, read_text
from mutated import mutated
from thoroughness import examples

TEXT = "first\nsécond 中\n"


def test_a_byte_order_mark_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "words"
    for mark in ("", "\ufeff"):
        path.write_text(mark + TEXT, encoding="utf-8")
        assert read_text(path) == TEXT
        assert read_lines(path) == ["first", "sécond 中"]
        with opened(path) as stream:
            assert list(decoded_lines(stream, str(path))) == ["first", "sécond 中"]
    path.write_text("a\ufeff\n\ufeffb\n", encoding="utf-8")  # only at the beginning is it one
    assert read_lines(path) == ["a\ufeff", "\ufeffb"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32"])
def test_another_encoding_is_named(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "words"
    mark = "" if encoding in ("utf-16", "utf-32") else "\ufeff"
    path.write_text(mark + TEXT, encoding=encoding)
    name = encoding.removesuffix("-be").upper()
    with pytest.raises(ConfigError, match=f"words: is text in {name}; save it as UTF-8"):
        read_text(path, ConfigError)
    with pytest.raises(DataError, match=f"words: is text in {name}"), opened(path) as stream:
        list(decoded_lines(stream, str(path)))


def test_text_that_is_not_utf8_names_the_line(tmp_path: Path) -> None:
    path = tmp_path / "words"
    path.write_bytes(b"first\nsecond\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"words, line 3: not text in UTF-8 \(byte 16\)"):
        read_text(path)
    with opened(path) as stream:
        assert list(decoded_lines(stream, str(path))) == ["first", "second", "caf\ufffd"]


@pytest.mark.parametrize("separator", "\u2028\u2029\u0085\x0b\x0c\x1c\x1d\x1e\r")
def test_only_line_feeds_end_a_line(tmp_path: Path, separator: str) -> None:
    path = tmp_path / "lines"
    path.write_bytes(f"a{separator}b\r\nc\n\n{separator}d".encode())
    assert read_lines(path) == [f"a{separator}b", "c", "", f"{separator}d"]
    path.write_bytes(b"")
    assert read_lines(path) == []


@settings(max_examples=examples(30), deadline=None, database=None)
@given(mutated(b"\xef\xbb\xbf" + TEXT.encode()))
def test_any_bytes_are_text_or_one_error(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any text"
    path.write_bytes(data)
    try:
        text = read_text(path)
    except DataError:
        return
    assert "\n".join(read_lines(path)) == text.replace("\r\n", "\n").removesuffix("\n").removesuffix("\r")
