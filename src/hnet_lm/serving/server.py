"""The process: a socket, uvicorn, and an orderly end.

At SIGTERM or SIGINT no new connection is accepted. Running requests may finish within the drain time, then they are
cancelled. A second SIGINT ends the process at once.
"""

import asyncio
import gc
import logging
import socket
import sys
from typing import Any, cast

import uvicorn
from fastapi import FastAPI
from sse_starlette.sse import AppStatus

from hnet_lm.errors import UserError
from hnet_lm.serving import observe
from hnet_lm.serving.connections import ACCEPTED_AT_ONCE, Connections
from hnet_lm.serving.limits import RequestLimits

_BACKLOG = 1024

# Longer than clients (5 s) and proxies (60 s) keep idle connections, so that none sends into one that was just closed.
_KEEP_ALIVE_SECONDS = 75

# Time for a cancelled request to release its resources and to be logged.
_CUT_OFF_SECONDS = 2

# A step consists of a thousand short operations. Each releases the interpreter lock and must get it back from the event
# loop, which keeps it for so many seconds (5 ms by default).
_SWITCH_SECONDS = 0.0002


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises UserError if the address cannot be used."""
    if not 0 <= port <= 65535:  # the system would reduce it modulo 65536
        raise UserError(f"port {port}: must be from 0 to 65535")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        raise UserError(f"cannot listen on {host}, port {port}: {error.strerror}; choose another") from error
    return listener


def url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class _Server(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        # asyncio uses one number for connections accepted at once, which are few, and for the backlog, which is not.
        for listener in sockets or []:
            listener.listen(_BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The signal ends the process right after this, so wait here for requests that were cancelled."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_CUT_OFF_SECONDS)


def make_server(app: FastAPI, limits: RequestLimits, drain_seconds: int) -> uvicorn.Server:
    """Raises UserError if the system allows no connections."""
    # sse-starlette would end every stream the moment a signal comes; uvicorn lets them finish.
    AppStatus.disable_automatic_graceful_drain()
    config = uvicorn.Config(
        app,
        http=cast(Any, Connections(limits).protocol),  # uvicorn only calls it
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain_seconds,
        log_level="error",  # it would warn about any invalid request
        access_log=False,
        server_header=False,
    )
    return _Server(config)


def serve(app: FastAPI, listener: socket.socket, limits: RequestLimits, drain_seconds: int, log_requests: bool) -> None:
    """Serve until a signal arrives. Configures thread switching, garbage collection and logging of the process."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Nothing else runs while the garbage collector scans all objects. Most of them, modules and models, exist from the
    # start and need not be scanned again.
    gc.collect()
    gc.freeze()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    if log_requests:
        observe.logger.setLevel(logging.INFO)
    make_server(app, limits, drain_seconds).run(sockets=[listener])
