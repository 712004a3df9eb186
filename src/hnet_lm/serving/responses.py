"""Answers that may be large: sent in pieces, each once the client has taken the one before."""

from collections.abc import Sequence
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hnet_lm.serving.json_bytes import to_json

_PIECE_BYTES = 2**16


class JsonAnswer(Response):
    """A JSON answer whose parts are encoded already; joined they are the body."""

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
    """The parts of a JSON list of items that are encoded already."""
    separated = [part for item in items for part in (b",", item)]
    return [b"[", *separated[1:], b"]"]


def json_object(fields: dict[str, Any], name: str, parts: Sequence[bytes | bytearray]) -> list[bytes | bytearray]:
    """The parts of a JSON object: `fields`, and then the field `name`, whose value is encoded already."""
    assert fields
    return [to_json(fields)[:-1], b",", to_json(name), b":", *parts, b"}"]
