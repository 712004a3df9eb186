import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hnet_lm.inspect.characters import MAX_JOINED, characters


@pytest.mark.parametrize(
    ("data", "glyphs", "starts"),
    [
        (b"", [], []),
        (b"a\nb", ["a", "⏎", "b"], [0, 1, 2]),
        ("中😀".encode(), ["中", "😀"], [0, 3]),
        (b"\0\t\x7f", ["␀", "␉", "␡"], [0, 1, 2]),
        (b"a\xff\xe4b", ["a", "\\xff", "\\xe4", "b"], [0, 1, 2, 3]),
        ("e\u0301x".encode(), ["e\u0301", "x"], [0, 3]),
        ("\u0301x".encode(), ["\u0301", "x"], [0, 2]),
        ("\u2028\x85".encode(), ["\\u2028", "\\u0085"], [0, 3]),
        (b"\xed\xa0\x80", ["\\xed", "\\xa0", "\\x80"], [0, 1, 2]),
    ],
)
def test_what_is_drawn(data: bytes, glyphs: list[str], starts: list[int]):
    drawn = characters(data)
    assert drawn.glyphs == glyphs
    assert drawn.starts.tolist() == starts


@given(st.one_of(st.binary(max_size=40), st.text(max_size=20).map(lambda t: t.encode("utf-8", "replace"))))
def test_every_byte_lies_in_one_character(data: bytes):
    drawn = characters(data)
    assert (drawn.ends - drawn.starts).sum() == len(data)
    assert (drawn.ends > drawn.starts).all()
    assert len(drawn.glyphs) == len(drawn.starts) == len(drawn.widths)


def test_a_text_of_marks_alone_is_not_one_character():
    drawn = characters("\u0301".encode() * 100)
    assert len(drawn) == -(-100 // MAX_JOINED)
    assert (drawn.ends - drawn.starts).max() < 256


def test_boundaries_at_and_inside_characters():
    drawn = characters("a中e\u0301b".encode())  # starts 0, 1, 4, 7
    starts = np.array([0, 2, 4, 5])
    assert drawn.opens(starts).tolist() == [True, False, True, False]
    assert drawn.torn(starts).tolist() == [False, True, True, False]
    assert drawn.chunk_ids(starts).tolist() == [0, 0, 2, 3]


def test_rows_fit_and_end_at_line_breaks():
    drawn = characters("abc中中\n\nxyz".encode())
    rows = ["".join(drawn.glyphs[i] for i in row) for row in drawn.rows(5)]
    assert rows == ["abc中", "中⏎", "⏎", "xyz"]
    assert list(characters("中a".encode()).rows(1)) == [range(0, 1), range(1, 2)]
