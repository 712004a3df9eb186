import itertools

import pytest
import torch

from hnet_lm.generation import utf8


def is_valid_prefix(data: bytes) -> bool:
    """Python's own word: whether `data` is valid UTF-8 that may break off inside its last character."""
    try:
        data.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.reason == "unexpected end of data"
    return True


def run(data: bytes) -> int:
    state = utf8.BOUNDARY
    for byte in data:
        state = utf8.advance(state, byte)
        if state == utf8.REJECT:
            break
    return state


def test_every_pair_of_bytes_and_every_third_byte_agree_with_python():
    for pair in itertools.product(range(256), repeat=2):
        assert (run(bytes(pair)) != utf8.REJECT) == is_valid_prefix(bytes(pair)), bytes(pair)
    for lead in itertools.product(
        (0xE0, 0xED, 0xEF, 0xF0, 0xF4), (0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF), range(256)
    ):
        assert (run(bytes(lead)) != utf8.REJECT) == is_valid_prefix(bytes(lead)), bytes(lead)


@pytest.mark.parametrize(
    "character", ["a", "\0", "é", "\u07ff", "\u0800", "中", "\ud7ff", "\ue000", "\uffff", "😀", "\U0010ffff"]
)
def test_characters_end_at_a_boundary_and_nowhere_before(character: str):
    data = character.encode()
    states = [run(data[:n]) for n in range(1, len(data) + 1)]
    assert [utf8.BYTES_TO_COME[s] for s in states] == list(range(len(data) - 1, -1, -1))


@pytest.mark.parametrize(
    "data", [b"\xc0\x80", b"\xc1\xbf", b"\xe0\x9f", b"\xed\xa0", b"\xf0\x8f", b"\xf4\x90", b"\xf5", b"\xff", b"\x80"]
)
def test_overlong_forms_surrogates_and_too_great_code_points_are_refused(data: bytes):
    assert run(data) == utf8.REJECT


def test_room_keeps_out_characters_that_would_not_be_finished():
    rooms = torch.arange(1, 6)
    allowed = utf8.allowed_bytes(torch.zeros(5, dtype=torch.int64), rooms)
    leads = {1: 0x41, 2: 0xC3, 3: 0xE4, 4: 0xF0}
    for room, row in zip(rooms.tolist(), allowed, strict=True):
        assert {n for n, lead in leads.items() if row[lead]} == {n for n in leads if n <= room}


def test_an_incomplete_character_that_cannot_be_finished_still_goes_on():
    state = run("😀".encode()[:1])
    row = utf8.allowed_bytes(torch.tensor([state]), torch.tensor([1]))[0]
    assert row.nonzero().flatten().tolist() == list(range(0x90, 0xC0))


@pytest.mark.parametrize(
    ("data", "to_come"),
    [
        (b"", 0),
        (b"abc", 0),
        ("中".encode()[:2], 1),
        (b"\xff\xe4", 2),
        (b"\x80\x80\x80\x80", 0),
        (b"\xe4a", 0),
        (b"\xf0\xe4", 2),
    ],
)
def test_state_after_a_prompt(data: bytes, to_come: int):
    assert utf8.BYTES_TO_COME[utf8.state_after(data)] == to_come
