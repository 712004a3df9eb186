"""Rate limits: requests and bytes per minute, by API key and by address.

Each is a token bucket, which holds a minute's worth and fills evenly. A request is admitted if at least one request and
one byte are left, and its bytes are deducted as they are produced. So one request may overdraw, and later ones wait
until the balance is positive again. In the long run a client gets exactly its rate.
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
    """State: how much is left, and at what time."""

    def __init__(self, per_minute: int, now: float) -> None:
        self._per_minute = per_minute
        self._left = float(per_minute)
        self._at = now

    def take(self, amount: int, now: float) -> None:
        """The balance may become negative."""
        self._left = min(self._left + (now - self._at) * self._per_minute / 60, self._per_minute) - amount
        self._at = now

    def seconds_until_one(self, now: float) -> float:
        """How long until one is left; 0 if it is."""
        self.take(0, now)
        missing = 1 - self._left
        return missing * 60 / self._per_minute if missing > _ROUNDING else 0.0


class Meter:
    """What one client has used."""

    def __init__(self, requests_per_minute: int | None, bytes_per_minute: int | None, now: float) -> None:
        self._requests = None if requests_per_minute is None else Bucket(requests_per_minute, now)
        self._bytes = None if bytes_per_minute is None else Bucket(bytes_per_minute, now)

    def admit(self, now: float) -> float:
        """Count one more request and return 0, or return the seconds that it has to wait."""
        buckets = [bucket for bucket in (self._requests, self._bytes) if bucket is not None]
        wait = max((bucket.seconds_until_one(now) for bucket in buckets), default=0.0)
        if wait == 0 and self._requests is not None:
            self._requests.take(1, now)
        return wait

    def count_bytes(self, num_bytes: int, now: float) -> None:
        if self._bytes is not None:
            self._bytes.take(num_bytes, now)


class LimitRate:
    """The middleware: answers 429 with Retry-After to a client that has exceeded its rate.

    `client_of` names the client of a request. Requests without one are not limited, nor are paths for which `is_open`
    is true. The most recent clients are remembered; a forgotten one starts with a full bucket.
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
                    error = overloaded("this client has exceeded its rate limit", wait)
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
    """Count bytes that a request has sent or was given, in every meter of its client."""
    for counter in scope.get("state", {}).get("byte_counters", ()):
        counter(num_bytes)


def address_of(scope: Scope) -> str | None:
    """The client's address; for IPv6 its /64 network, all of which belongs to one client."""
    if not scope.get("client"):
        return None
    try:
        address = ipaddress.ip_address(scope["client"][0])
    except ValueError:  # a proxy may send anything
        return scope["client"][0]
    return str(ipaddress.ip_network((address, 64), strict=False)) if address.version == 6 else str(address)


def key_of(scope: Scope) -> str | None:
    """The digest of the API key that opened the server to this request."""
    return scope.get("state", {}).get("api_key")
