"""Valid UTF-8, one byte at a time: which bytes may come next.

A state machine after the well-formedness table of the Unicode standard (table 3-7). It is exact: overlong forms,
surrogates and code points above U+10FFFF are refused at the first byte that makes them so, which is often the second.

| state | after | takes | then |
|---|---|---|---|
| BOUNDARY | a whole character | 00-7F; C2-DF; E0, E1-EC, ED, EE-EF; F0, F1-F3, F4 | the rows below |
| 1 to 3 | a lead byte and perhaps more | 80-BF | one byte fewer to come |
| 4 | E0 | A0-BF (no overlong form) | 1 |
| 5 | ED | 80-9F (no surrogate) | 1 |
| 6 | F0 | 90-BF (no overlong form) | 2 |
| 7 | F4 | 80-8F (no code point above U+10FFFF) | 2 |
"""

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

BOUNDARY = 0
REJECT = -1

# first byte, last byte, next state; one list a state
_RANGES: tuple[tuple[tuple[int, int, int], ...], ...] = (
    (
        (0x00, 0x7F, 0),
        (0xC2, 0xDF, 1),
        (0xE0, 0xE0, 4),
        (0xE1, 0xEC, 2),
        (0xED, 0xED, 5),
        (0xEE, 0xEF, 2),
        (0xF0, 0xF0, 6),
        (0xF1, 0xF3, 3),
        (0xF4, 0xF4, 7),
    ),
    ((0x80, 0xBF, 0),),
    ((0x80, 0xBF, 1),),
    ((0x80, 0xBF, 2),),
    ((0xA0, 0xBF, 1),),
    ((0x80, 0x9F, 1),),
    ((0x90, 0xBF, 2),),
    ((0x80, 0x8F, 2),),
)
BYTES_TO_COME = (0, 1, 2, 3, 2, 2, 3, 3)
"""Bytes that complete the character, for each state."""

MAX_ROOM = 4
"""The longest character, in bytes: more room than this changes nothing."""


def _transitions() -> tuple[tuple[int, ...], ...]:
    table = [[REJECT] * 256 for _ in _RANGES]
    for row, ranges in zip(table, _RANGES, strict=True):
        for first, last, state in ranges:
            row[first : last + 1] = [state] * (last + 1 - first)
    return tuple(tuple(row) for row in table)


_TRANSITIONS = _transitions()


def transitions() -> np.ndarray:
    """(states + 1, 256): the next state, as numbers from 0 on; the last row, which leads to itself, is REJECT."""
    table = np.array([*_TRANSITIONS, [REJECT] * 256], dtype=np.int64)
    table[table == REJECT] = len(_TRANSITIONS)
    return table


def advance(state: int, byte: int) -> int:
    """The state after one more byte; REJECT where it cannot continue a valid character."""
    return _TRANSITIONS[state][byte]


def advance_any(state: int, byte: int) -> int:
    """The state after any byte. One that does not fit ends the character before it, as in decoding with "replace"."""
    after = advance(state, byte)
    if after == REJECT:
        after = advance(BOUNDARY, byte)
    return BOUNDARY if after == REJECT else after


def state_after(data: bytes) -> int:
    """The state after `data`, valid or not."""
    state = BOUNDARY
    for byte in data[-MAX_ROOM:]:  # no character is longer, so what came before cannot matter
        state = advance_any(state, byte)
    return state


def _allowed() -> Bool[Tensor, "states rooms 256"]:
    allowed = torch.zeros(len(_RANGES), MAX_ROOM + 1, 256, dtype=torch.bool)
    for state, row in enumerate(_TRANSITIONS):
        for byte, after in enumerate(row):
            if after != REJECT:
                allowed[state, 1 + BYTES_TO_COME[after] :, byte] = True
        # an incomplete character (the prompt's) that the room cannot complete: go on with it all the same
        for room in range(BYTES_TO_COME[state]):
            allowed[state, room] = allowed[state, MAX_ROOM]
    return allowed


_ALLOWED = _allowed()


def allowed_bytes(states: Int[Tensor, " b"], room: Int[Tensor, " b"]) -> Bool[Tensor, "b 256"]:
    """The bytes that keep the text valid and whose character still fits into `room` more bytes, this one counted."""
    return _ALLOWED[states, room.clamp(max=MAX_ROOM)]
