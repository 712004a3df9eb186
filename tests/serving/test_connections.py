"""Connections that say nothing, too little, too slowly or nonsense, and more of them than may be."""

import logging
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest
from running_server import MODEL, Running, running

from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.serving import connections
from hnet_lm.serving.limits import RequestLimits

HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"


def received(connection: socket.socket) -> bytes:
    """All that comes until the server closes."""
    parts = []
    while part := _part(connection):
        parts.append(part)
    return b"".join(parts)


def _part(connection: socket.socket) -> bytes:
    try:
        return connection.recv(65536)
    except ConnectionResetError:
        return b""


@contextmanager
def slow_server(model: HNetLM, **limits: float) -> Iterator[Running]:
    with running(
        {MODEL: model}, RequestLimits(**{"max_head_seconds": 0.3, "max_body_seconds": 0.3, **limits})
    ) as server:
        yield server


def test_a_head_that_does_not_arrive_in_time_is_408(model: HNetLM):
    with slow_server(model) as server, server.connect() as connection:
        begin = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        answer = received(connection)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b'"code":"timeout"' in answer
        assert 0.2 < time.monotonic() - begin < 4


def test_bytes_that_trickle_in_do_not_put_the_deadline_off(model: HNetLM):
    with slow_server(model) as server, server.connect() as connection:
        connection.settimeout(0.05)
        begin = time.monotonic()
        connection.sendall(b"GET /health HTTP/1.1\r\nX: ")
        closed = False
        while not closed:
            assert time.monotonic() - begin < 4, "the connection is still open"
            try:
                connection.sendall(b"a")
                closed = connection.recv(1000) == b""
            except TimeoutError:
                continue
            except OSError:
                closed = True


def test_a_connection_that_says_nothing_is_closed_without_a_word(model: HNetLM):
    with slow_server(model) as server, server.connect() as connection:
        assert received(connection) == b""


def test_the_second_head_on_a_connection_has_the_deadline_too(model: HNetLM):
    with slow_server(model) as server, server.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += connection.recv(1000)
        time.sleep(0.6)  # idle connections are kept: the deadline begins with the first byte
        connection.sendall(b"GET /health HTTP/1.1\r\n")
        assert received(connection).startswith(b"HTTP/1.1 408 ")


def test_what_is_refused_need_not_be_read_for_ever(model: HNetLM):
    """The refusal comes before the body; the rest of that must not hold the connection."""
    with slow_server(model) as server, server.connect() as connection:
        connection.sendall(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n")
        begin = time.monotonic()
        assert received(connection).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - begin < 4


@pytest.mark.parametrize(
    "nonsense",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",  # a client that speaks TLS
        b"GET / HTTP/1.1\r\nHost: x\r\nBad Header: 1\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000 + b"\r\n\r\n",
    ],
)
def test_nonsense_is_400_and_not_logged(server: Running, nonsense: bytes, caplog: pytest.LogCaptureFixture):
    with server.connect() as connection:
        connection.sendall(nonsense + b"\r\n\r\n")
        assert received(connection).startswith(b"HTTP/1.1 400 ")
    assert not caplog.records


def test_beyond_the_cap_idle_connections_make_room_and_it_is_logged_once(
    model: HNetLM, caplog: pytest.LogCaptureFixture
):
    with running({MODEL: model}, RequestLimits(max_connections=5)) as server, ExitStack() as stack:
        half = [stack.enter_context(server.connect()) for _ in range(20)]
        for connection in half:
            connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(3):
            assert httpx.get(f"{server.url}/health").status_code == 200
        assert received(half[0]) == b"", "the oldest has made room"
        warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
        assert [record.name for record in warnings] == [connections.__name__]
        assert "5 connections are open" in warnings[0].getMessage()


def test_beyond_the_cap_busy_connections_stay_and_newcomers_are_503(model: HNetLM):
    body = b'{"prompt": "a", "max_tokens": 4000, "ignore_eos": true, "stream": true}'
    with running({MODEL: model}, RequestLimits(max_connections=2)) as server, ExitStack() as stack:
        streams = [stack.enter_context(server.connect()) for _ in range(2)]
        for stream in streams:
            stream.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert stream.recv(10).startswith(b"HTTP/1.1 2")
        with server.connect() as newcomer:
            refusal = received(newcomer)
        assert refusal.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in refusal
        streams[0].close()
        server.until(lambda: _is_well(server))
        assert streams[1].recv(65536)


def _is_well(server: Running) -> bool:
    try:
        return httpx.get(f"{server.url}/health").status_code == 200
    except httpx.HTTPError:
        return False


def test_the_limit_of_open_files_bounds_connections(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (300, 300))
    assert 100 < connections.Connections(RequestLimits()).max_open < 220
    assert connections.Connections(RequestLimits(max_connections=7)).max_open == 7
    monkeypatch.setattr(connections.resource, "getrlimit", lambda _: (64, 64))
    with pytest.raises(UserError, match="64 open files"):
        connections.Connections(RequestLimits())


def test_a_client_that_takes_nothing_of_its_answer_is_cut_off(model: HNetLM):
    """The answer is larger than what the two kernels keep of it."""
    body = b'{"prompt": "%s", "max_tokens": 0, "echo": true, "logprobs": 20}' % (b"x" * 12_000)
    with running({MODEL: model}, RequestLimits(max_stall_seconds=0.4)) as server:
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        connection.connect(server.address)
        with connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            begin = connection.recv(1000)
            assert begin.startswith(b"HTTP/1.1 200 ")
            time.sleep(2.5)
            head, _, content = (begin + received(connection)).partition(b"\r\n\r\n")
    (promised,) = map(int, re.findall(rb"content-length: (\d+)", head))
    assert promised > 6_000_000
    assert len(content) < promised


def test_clients_that_leave_are_no_noise_in_the_log(model: HNetLM, caplog: pytest.LogCaptureFixture):
    """asyncio warns of every write into a connection that is gone, and there are many where events have piled up."""
    body = b'{"prompt": "a", "max_tokens": 200, "ignore_eos": true, "stream": true, "n": 16}'
    with running({MODEL: model}) as server:
        with server.connect() as connection:
            connection.sendall(HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body)
            assert connection.recv(10)
            server.loop.call_soon_threadsafe(time.sleep, 0.5)
            time.sleep(0.1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, no farewell
        server.until(lambda: server.figure("active") == 0)
    assert not caplog.records
