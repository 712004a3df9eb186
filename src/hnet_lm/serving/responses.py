"""Answers as they are sent: JSON in pieces, each sent after the client has read the one before."""

import json
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

_PIECE_BYTES = 2**16


def to_json(value: Any) -> bytes:
    """Compact JSON in UTF-8, on one line by every definition of a line.

    U+0085, U+2028 and U+2029 are escaped: many line readers (httpx's, requests', Python's own `splitlines`) end a line
    at them, and would break a server-sent event. A lone surrogate, which UTF-8 cannot encode, is escaped too. Raises
    ValueError for a number that JSON does not have, such as NaN.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    text = text.replace("\x85", "\\u0085").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")
    return text.encode("utf-8", "backslashreplace")


class JsonAnswer(Response):
    """A JSON answer whose parts are already encoded; joined they are the body."""

    media_type = "application/json"

    def __init__(self, parts: Sequence[bytes | bytearray]) -> None:
        super().__init__(headers={"content-length": str(sum(map(len, parts)))})
        self._parts = parts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        for part in self._parts:
            for begin in range(0, len(part), _PIECE_BYTES):
                piece = bytes(part[begin : begin + _PIECE_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def json_list(items: Sequence[bytes]) -> list[bytes]:
    """The parts of a JSON list of items that are already encoded."""
    separated = [part for item in items for part in (b",", item)]
    return [b"[", *separated[1:], b"]"]


def json_object(fields: dict[str, Any], name: str, parts: Sequence[bytes | bytearray]) -> list[bytes | bytearray]:
    """The parts of a JSON object: `fields`, and then the field `name`, whose value is already encoded."""
    assert fields
    return [to_json(fields)[:-1], b",", to_json(name), b":", *parts, b"}"]
