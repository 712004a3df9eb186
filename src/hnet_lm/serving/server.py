"""The process: a socket, uvicorn, and an orderly end.

At SIGTERM or SIGINT no new connection is taken; what runs may finish within the drain time, then it is cut off. A
second SIGINT ends at once.
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

# An idle connection is kept longer than clients (5 s) and proxies (60 s) do, so that none sends into one just closed.
_KEEP_ALIVE_SECONDS = 75

# What a request that was cut off may take to let go of what it holds and to be logged.
_CUT_OFF_SECONDS = 2

# A step is a thousand short operations, each of which gives up the interpreter lock and has to get it back from the
# event loop, which keeps it so many seconds (5 ms by default).
_SWITCH_SECONDS = 0.0002


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes any free one. Raises UserError where there cannot be one."""
    if not 0 <= port <= 65535:  # the system would take it modulo 65536
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
        # asyncio accepts as many at once as the backlog that it sets, which is to be small, but the queue is not.
        for listener in sockets or []:
            listener.listen(_BACKLOG)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """The signal ends the process right behind this, so requests that were cut off come to their end here."""
        await super().shutdown(sockets)
        if self.server_state.tasks:
            await asyncio.wait(self.server_state.tasks, timeout=_CUT_OFF_SECONDS)


def make_server(app: FastAPI, limits: RequestLimits, drain_seconds: int) -> uvicorn.Server:
    """Raises UserError where the system allows no connections."""
    # sse-starlette would end every stream the moment a signal comes; uvicorn lets them finish.
    AppStatus.disable_automatic_graceful_drain()
    config = uvicorn.Config(
        app,
        http=cast(Any, Connections(limits).protocol),  # uvicorn only calls it
        ws="none",
        backlog=ACCEPTED_AT_ONCE,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=drain_seconds,
        log_level="error",  # it warns of whatever nonsense a client sends
        access_log=False,
        server_header=False,
    )
    return _Server(config)


def serve(app: FastAPI, listener: socket.socket, limits: RequestLimits, drain_seconds: int, log_requests: bool) -> None:
    """Serve until a signal comes. Sets the process's switches between threads, garbage collection, and log."""
    sys.setswitchinterval(_SWITCH_SECONDS)
    # Nothing else runs while the garbage collector goes through all objects. Most are there from the start, the modules
    # and the models, and need not be looked at again.
    gc.collect()
    gc.freeze()
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s", level=logging.WARNING)
    if log_requests:
        observe.logger.setLevel(logging.INFO)
    make_server(app, limits, drain_seconds).run(sockets=[listener])
