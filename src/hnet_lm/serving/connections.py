"""Connections: how many may be open, and how long one may be idle, slow or stalled.

uvicorn limits only the time between two requests. Here a connection is also closed when the head of a request, or the
rest of a body that was refused, does not arrive in time, or when the client reads nothing of its answer for too long.
At the limit of open connections, the one that has been idle longest is closed to make room for a new one; if all are
busy, the new one is refused with 503.
"""

import asyncio
import logging
import os
import sys
import time
from collections import OrderedDict
from typing import Any, cast

import h11
from starlette.types import Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from hnet_lm.errors import UserError
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.responses import to_json

if sys.platform != "win32":
    import resource

logger = logging.getLogger(__name__)

ACCEPTED_AT_ONCE = 16
"""Connections that the event loop accepts in one iteration; they are counted two iterations later."""

_RESERVED_FILES = 5 * ACCEPTED_AT_ONCE
_LOG_SECONDS = 60.0


class Connections:
    """All connections of a server. State: those without a running request, the longest idle first."""

    def __init__(self, limits: RequestLimits) -> None:
        self.limits = limits
        self.max_open = min(limits.max_connections, _max_files())
        self.open: set[Connection] = set()
        self._idle: OrderedDict[Connection, None] = OrderedDict()
        self._logged_at = -_LOG_SECONDS

    def protocol(self, **uvicorn_arguments: Any) -> "Connection":
        """A connection that uvicorn has accepted."""
        return Connection(self, **uvicorn_arguments)

    def admit(self, connection: "Connection") -> bool:
        """Whether there is room for one more; an idle connection may be closed for it."""
        if len(self.open) >= self.max_open:
            self._log()
            if not self._idle:
                return False
            next(iter(self._idle)).abandon()
        self.open.add(connection)
        self._idle[connection] = None
        return True

    def mark(self, connection: "Connection", *, is_busy: bool) -> None:
        if is_busy or connection not in self.open:
            self._idle.pop(connection, None)
        else:
            self._idle.setdefault(connection, None)

    def forget(self, connection: "Connection") -> None:
        self.open.discard(connection)
        self._idle.pop(connection, None)

    def _log(self) -> None:
        now = time.monotonic()
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            logger.warning(
                "%d connections are open, which is the limit (--limits.max-connections, ulimit -n); idle ones are "
                "closed, and new ones are refused when none is idle. Logged at most once per minute.",
                self.max_open,
            )


class Connection(H11Protocol):
    """uvicorn's connection, with deadlines."""

    def __init__(self, connections: Connections, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._connections = connections
        self._limits = connections.limits
        self._application = self.app
        self.app = self._run  # pyright: ignore[reportAttributeAccessIssue]: uvicorn's types of messages are narrower
        self._expected: object = None  # what has not arrived in full: a head, a refused body, a request's cycle
        self._deadline: asyncio.TimerHandle | None = None
        self._stall: asyncio.TimerHandle | None = None
        self._has_sent_anything = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast(asyncio.Transport, transport)
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)  # so that a client that reads nothing is noticed
        if self._connections.admit(self):
            self._expect("head", self._limits.max_head_seconds)
        else:
            self._refuse(
                ApiError(503, "too many connections are open", code="overloaded", headers={"Retry-After": "1"})
            )

    def connection_lost(self, exc: Exception | None) -> None:
        self._connections.forget(self)
        self._expect(None)
        self._unset_keepalive_if_required()
        self.resume_writing()
        super().connection_lost(exc)
        self.app = self._application  # breaks a reference cycle

    def data_received(self, data: bytes) -> None:
        self._has_sent_anything = True
        super().data_received(data)
        self._look()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._stall is None:
            self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._stall is not None:
            self._stall.cancel()
            self._stall = None

    def send_400_response(self, msg: str) -> None:
        """For what is not HTTP."""
        self._refuse(ApiError(400, "the request is not HTTP", code="invalid_request"))

    def abandon(self) -> None:
        """Close a connection on which no request runs, to make room for another."""
        self._connections.forget(self)
        self.transport.abort()

    @property
    def _is_busy(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _look(self) -> None:
        """Set the deadline for what the client must do next."""
        if self.transport.is_closing():
            return
        self._connections.mark(self, is_busy=self._is_busy)
        limits = self._limits
        if self._is_busy:
            # The body and the completion have deadlines of their own; this is for clients that read an answer slowly.
            self._expect(self.cycle, limits.max_body_seconds + limits.max_request_seconds + limits.max_stall_seconds)
        elif self.conn.their_state is h11.SEND_BODY:
            self._expect("rest of a body", limits.max_body_seconds)
        elif self.timeout_keep_alive_task is None:
            self._expect("head", limits.max_head_seconds)
        else:
            self._expect(None)

    def _expect(self, what: object, seconds: float = 0.0) -> None:
        """`what` must be complete within so many seconds; if it is already expected, its deadline stays."""
        if what == self._expected:
            return
        if self._deadline is not None:
            self._deadline.cancel()
        self._expected = what
        self._deadline = None if what is None else self.loop.call_later(seconds, self._expire)

    def _expire(self) -> None:
        if self._expected != "head" or not self._has_sent_anything:
            self.transport.abort()
        else:
            self._refuse(ApiError(408, "the head of the request did not arrive in time", code="timeout"))

    def _refuse(self, error: ApiError) -> None:
        """Send the error, unless an answer is being sent, and close."""
        if self._is_busy or self.transport.is_closing():
            self.transport.abort()
            return
        content = to_json(error.body)
        headers = {"Content-Type": "application/json", "Content-Length": len(content), "Connection": "close"}
        lines = [f"HTTP/1.1 {error.status} ", *(f"{k}: {v}" for k, v in {**headers, **(error.headers or {})}.items())]
        self.transport.write("\r\n".join([*lines, "", ""]).encode("latin-1") + content)
        self.transport.close()

    def _watch_writing(self, left_before: int | None = None) -> None:
        """Check regularly while the answer waits for the client; close the connection if the client reads nothing."""
        left = self.transport.get_write_buffer_size()
        if left_before is not None and left >= left_before:
            self._stall = None
            self.transport.abort()
        else:
            self._stall = self.loop.call_later(self._limits.max_stall_seconds, self._watch_writing, left)

    async def _run(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The application. uvicorn would write into a connection that is gone until it is told."""
        cycle = self.cycle

        async def send_while_open(message: Message) -> None:
            if self.transport.is_closing():
                cycle.disconnected = True
            await send(message)

        await self._application(scope, receive, send_while_open)  # pyright: ignore[reportArgumentType]: see __init__


def _max_files() -> int:
    """How many more connections the limit on open files allows. Raises UserError if that is none.

    Windows has no such limit: sockets are not files there.
    """
    if sys.platform == "win32":
        return 2**31
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if allowed == resource.RLIM_INFINITY:
        return 2**31
    num_open = len(os.listdir("/dev/fd"))
    if allowed - num_open <= _RESERVED_FILES:
        raise UserError(
            f"{allowed} open files are allowed (ulimit -n), which leaves none for connections; allow "
            f"{num_open + _RESERVED_FILES + 1} or more"
        )
    return allowed - num_open - _RESERVED_FILES
