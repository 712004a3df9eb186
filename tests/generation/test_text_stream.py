import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hnet_lm.generation.text_stream import TextStream

# what breaks streams: leads without tails, tails alone, surrogates, overlong forms, 4-byte characters, combining marks
FRAGMENTS = [
    b"a",
    b"ab",
    b" ",
    b"\0",
    "é".encode(),
    "e\u0301".encode(),
    "中文".encode(),
    "😀".encode(),
    b"\xf0\x9f",
    b"\xe4",
]
FRAGMENTS += [
    b"\x80",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xc0\x80",
    b"\xf4\x90\x80\x80",
    b"\xe0\x80",
    b"STOP",
    b"STO",
    b"\n\n",
]


def cut(data: bytes, stops: list[bytes]) -> bytes:
    """What stands before the stop that is complete first; of several complete at one byte, before the longest."""
    for end in range(1, len(data) + 1):
        ending = [stop for stop in stops if data[:end].endswith(stop)]
        if ending:
            return data[: end - max(map(len, ending))]
    return data


def stream(data: bytes, sizes: list[int], stops: list[bytes]) -> tuple[bytes, str]:
    text_stream = TextStream(stops)
    pieces, start = [], 0
    for size in sizes:
        pieces.append(text_stream.push(data[start : start + size]))
        start += size
    pieces += [text_stream.push(data[start:]), text_stream.finish()]
    return b"".join(p.data for p in pieces), "".join(p.text for p in pieces)


def test_10_000_random_byte_strings_in_any_splitting_give_the_whole_decode():
    rng = random.Random(0)
    for _ in range(10_000):
        data = b"".join(
            rng.choice(FRAGMENTS) if rng.random() < 0.8 else rng.randbytes(3) for _ in range(rng.randrange(8))
        )
        stops = rng.choices(
            [b"STOP", b"\n\n", "😀".encode(), b"ab", b"aba", b"\x80", "文".encode()], k=rng.randrange(3)
        )
        sizes = [rng.randrange(4) for _ in range(rng.randrange(8))]
        kept = cut(data, stops)
        assert stream(data, sizes, stops) == (kept, kept.decode("utf-8", "replace")), (data, sizes, stops)


@given(
    st.binary(max_size=30),
    st.lists(st.binary(min_size=1, max_size=3), max_size=3),
    st.lists(st.integers(0, 3), max_size=20),
)
def test_law_for_any_bytes_and_any_stops(data: bytes, stops: list[bytes], sizes: list[int]):
    kept = cut(data, stops)
    assert stream(data, sizes, stops) == (kept, kept.decode("utf-8", "replace"))


def test_a_4_byte_character_comes_whole_with_its_last_byte():
    text_stream = TextStream()
    assert [text_stream.push(bytes([byte])).text for byte in "😀!".encode()] == ["", "", "", "😀", "!"]


def test_bytes_are_delivered_as_soon_as_no_stop_can_cut_them():
    text_stream = TextStream([b"ab!"])
    assert [text_stream.push(bytes([byte])).text for byte in b"xaab?ab!z"] == ["x", "", "a", "", "ab?", "", "", "", ""]
    assert text_stream.stopped
    assert text_stream.finish().text == ""


def test_the_last_byte_is_delivered():
    for data, text in [(b"abc", "abc"), ("中".encode()[:2], "\ufffd"), (b"\xff", "\ufffd"), (b"ST", "ST")]:
        assert stream(data, [1] * 3, [b"STOP"]) == (data, text)


def test_a_stop_inside_a_characters_neighbourhood_cuts_between_characters():
    assert stream("a中b文c".encode(), [2, 2, 2], ["文".encode()])[1] == "a中b"
    assert stream("é".encode() + b"\xc3STOP", [1] * 7, [b"STOP"])[1] == "é\ufffd"


@pytest.mark.parametrize("size", [1, 2, 100])
def test_overlapping_beginnings(size: int):
    data = b"aaaaaaab tail"
    assert stream(data, [size] * 13, [b"aaab"])[0] == b"aaaa"
