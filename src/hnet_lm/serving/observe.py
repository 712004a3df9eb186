"""The middleware that observes every request, for the metrics and the request log."""

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

logger = logging.getLogger(__name__)

CLIENT_GONE = "none"


@dataclass(frozen=True)
class Exchange:
    """A request that has been answered, or whose client has disconnected."""

    address: str
    method: str
    path: str
    """Decoded, without the query."""
    raw_path: str
    """As it was sent: one word of ASCII."""
    status: str
    """The status code, or CLIENT_GONE if the client disconnected before the answer began."""
    num_bytes: int
    """Bytes of the answer's body."""
    seconds: float


class Observe:
    """Calls every observer once each request is over."""

    def __init__(self, app: ASGIApp, observers: Sequence[Callable[[Exchange], None]]) -> None:
        self._app = app
        self._observers = observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        begin = time.perf_counter()
        status = CLIENT_GONE
        num_bytes = 0

        async def watch(message: Message) -> None:
            nonlocal status, num_bytes
            if message["type"] == "http.response.start":
                status = str(message["status"])
            num_bytes += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, watch)
        except Exception:
            status = "500"  # sent by an outer layer
            raise
        finally:
            exchange = Exchange(
                address=scope["client"][0] if scope.get("client") else "-",
                method=scope["method"],
                path=scope["path"],
                raw_path=scope.get("raw_path", b"-").decode("ascii", "backslashreplace"),
                status=status,
                num_bytes=num_bytes,
                seconds=time.perf_counter() - begin,
            )
            for observe in self._observers:
                observe(exchange)


def log_request(exchange: Exchange) -> None:
    """One line per request, without the query and the headers, which may hold keys."""
    logger.info(
        "%s %s %s %s %d bytes %.3f s",
        exchange.address,
        exchange.method,
        exchange.raw_path,
        exchange.status,
        exchange.num_bytes,
        exchange.seconds,
    )
