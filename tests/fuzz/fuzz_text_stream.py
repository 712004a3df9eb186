"""Text as it streams: however bytes are cut, the pieces joined are the text up to the first stop, decoded at once."""

from hnet_lm.generation import utf8
from hnet_lm.generation.text_stream import TextStream

SEEDS = (
    b"\x02\x01ab\x00" + "one 中 é 🎉 two".encode(),
    b"\x03\x02aab\x00aa" + b"aaaab \xff\xf0\x9f",
    b"\x01\x00\xe4\xb8\xe4\xb8\xad\xed\xa0\x80\xc0\x80",
)


def check(data: bytes) -> None:
    """The first byte says how long the pieces are, the second how long the stop string is that follows."""
    if len(data) < 2:
        return
    step, size = data[0] % 7 + 1, data[1] % 5
    stop, text = data[2 : 2 + size], data[2 + size :]
    stream = TextStream([stop] if stop else [])
    pieces = [stream.push(text[place : place + step]) for place in range(0, len(text), step)]
    pieces.append(stream.finish())
    wanted = text.partition(stop)[0] if stop else text
    assert b"".join(piece.data for piece in pieces) == wanted
    assert "".join(piece.text for piece in pieces) == wanted.decode("utf-8", "replace")
    _check_states(text)


def _check_states(text: bytes) -> None:
    """The state machine takes a text byte by byte exactly if the codec does."""
    state = utf8.BOUNDARY
    for byte in text:
        state = utf8.advance(state, byte)
        if state == utf8.REJECT:
            break
    try:
        text.decode()
        is_valid = True
    except UnicodeDecodeError:
        is_valid = False
    assert (state == utf8.BOUNDARY) == is_valid
    assert utf8.state_after(text) in range(len(utf8.BYTES_TO_COME))
