"""Reads the body of each request within limits, and cancels the handler of a client that has disconnected."""

import asyncio
from contextlib import ExitStack

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits

# A client that is still sending does not read a refusal. Of a body that is too large, this multiple of the limit is
# read and discarded.
_DISCARDED_BODIES = 8


class _ClientGone(Exception):
    """The connection was closed before the whole request had arrived."""


def held(scope: Scope) -> ExitStack:
    """Resources that a request holds until it is over, however it ends."""
    return scope["state"]["held"]


class Guard:
    """Refuses bodies that are too large (413) or too slow (408); cancels the handler of a client that disconnects."""

    def __init__(self, app: ASGIApp, limits: RequestLimits) -> None:
        self._app = app
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(self._limits.max_body_seconds):
                body = await self._read_body(Headers(scope=scope), receive)
        except TimeoutError:
            return await _refusal(408, "the body did not arrive in time", "timeout").response(scope, receive, send)
        except ApiError as error:
            return await error.response(scope, receive, send)
        except _ClientGone:
            return
        with ExitStack() as stack:
            scope.setdefault("state", {})["held"] = stack
            await self._run(scope, body, receive, send)

    async def _read_body(self, headers: Headers, receive: Receive) -> bytes:
        limit = self._limits.max_body_bytes
        declared = headers.get("content-length", "0")
        too_large = _refusal(413, f"the body is larger than the {limit:,} bytes allowed", "body_too_large")
        if not declared.isdecimal() or int(declared) > limit * _DISCARDED_BODIES:
            raise too_large
        body = bytearray()
        size = 0
        more = True
        while more and size <= limit * _DISCARDED_BODIES:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _ClientGone
            part = message.get("body", b"")
            size += len(part)
            if size <= limit:
                body += part
            more = message.get("more_body", False)
        if size > limit:
            raise too_large
        return bytes(body)

    async def _run(self, scope: Scope, body: bytes, receive: Receive, send: Send) -> None:
        waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]
        gone = asyncio.create_task(_until_gone(receive))

        async def replay() -> Message:
            if waiting:
                return waiting.pop()
            await asyncio.shield(gone)
            return {"type": "http.disconnect"}

        handler = asyncio.create_task(self._app(scope, replay, send))  # pyright: ignore[reportArgumentType]  types of dicts
        try:
            await asyncio.wait({handler, gone}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            handler.cancel()  # no effect on one that is done
            await asyncio.wait({handler})
        if not handler.cancelled():
            handler.result()


class HeadIsGet:
    """The middleware for HEAD: routes see a GET, and the server below sends no body."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "HEAD":
            scope = {**scope, "method": "GET"}
        await self._app(scope, receive, send)


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _refusal(status: int, message: str, code: str) -> ApiError:
    """The rest of the body may still be in transit, so the connection cannot be used again."""
    return ApiError(status, message, code=code, headers={"Connection": "close"})
