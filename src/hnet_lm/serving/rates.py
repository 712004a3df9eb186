"""How much one client asks for in a minute: requests and bytes, by API key and by address.

A token bucket each: it holds a minute's worth and fills evenly. A request is let in where at least one request and one
byte are left, and pays for its bytes as they come; so one request may overdraw, and those after it wait until that is
paid. What a client may have over a long time is exactly its rate.
"""

import ipaddress
import time
from collections import OrderedDict
from collections.abc import Callable

from starlette.types import ASGIApp, Receive, Scope, Send

from hnet_lm.serving.errors import overloaded

_MAX_CLIENTS = 10_000
_ROUNDING = 1e-6


class Bucket:
    """State: how much is left, and when that was reckoned."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def take(self, amount: int, now: float) -> None:
        """May leave less than nothing."""
        self._left = min(self._left + (now - self._at) * self._per_minute / 60, self._per_minute) - amount
        self._at = now

    def seconds_until_one(self, now: float) -> float:
        """How long until one is left; 0 where it is."""
        self.take(0, now)
        missing = 1 - self._left
        return missing * 60 / self._per_minute if missing > _ROUNDING else 0.0


class Meter:
    """What one client has used."""

    def __init__(self, requests_per_minute: int | None, bytes_per_minute: int | None, now: float) -> None:
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, now)
        self._bytes = None if bytes_per_minute is None else Bucket(bytes_per_minute, now)

    def admit(self, now: float) -> float:
        """Count one more request, unless it has to wait: then for how many seconds."""
        buckets = [bucket for bucket in (self._requests, self._bytes) if bucket is not None]
        wait = max((bucket.seconds_until_one(now) for bucket in buckets), default=0.0)
        if wait == 0 and self._requests is not None:
            self._requests.take(1, now)
        return wait

    def count_bytes(self, num_bytes: int, now: float) -> None:
        if self._bytes is not None:
            self._bytes.take(num_bytes, now)


class LimitRate:
    """The middleware: answers 429 with Retry-After for a client that has used up its minute.

    `client_of` names the client of a request; None, and paths in `open_paths`, are not limited. The clients seen last
    are remembered; one forgotten among ten thousand others begins with a full minute.
    """

    def __init__(
        self,
        app: ASGIApp,
        requests_per_minute: int | None,
        bytes_per_minute: int | None,
        client_of: Callable[[Scope], str | None],
        is_open: Callable[[str], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._rates = (requests_per_minute, bytes_per_minute)
        self._client_of = client_of
        self._is_open = is_open
        self._clock = clock
        self._meters: OrderedDict[str, Meter] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not self._is_open(scope["path"]):
            client = self._client_of(scope)
            if client is not None:
                meter = self._meter(client)
                wait = meter.admit(self._clock())
                if wait > 0:
                    error = overloaded("this client has used up what it may ask for in a minute", wait)
                    return await error.response(scope, receive, send)
                counters = scope.setdefault("state", {}).setdefault("byte_counters", [])
                counters.append(lambda num_bytes: meter.count_bytes(num_bytes, self._clock()))
        await self._app(scope, receive, send)

    def _meter(self, client: str) -> Meter:
        if client not in self._meters:
            self._meters[client] = Meter(*self._rates, self._clock())
            if len(self._meters) > _MAX_CLIENTS:
                self._meters.popitem(last=False)
        self._meters.move_to_end(client)
        return self._meters[client]


def count_bytes(scope: Scope, num_bytes: int) -> None:
    """Count bytes that a request has asked for or was given, wherever its client's are counted."""
    for counter in scope.get("state", {}).get("byte_counters", ()):
        counter(num_bytes)


def address_of(scope: Scope) -> str | None:
    """The client's address; of IPv6 the /64 network, of which one client has all."""
    if not scope.get("client"):
        return None
    try:
        address = ipaddress.ip_address(scope["client"][0])
    except ValueError:  # a proxy may say what it likes
        return scope["client"][0]
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def key_of(scope: Scope) -> str | None:
    """The digest of the API key that opened the server to this request."""
    return scope.get("state", {}).get("api_key")
