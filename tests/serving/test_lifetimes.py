"""Slots are limited and come back: when a client leaves, when time is over, when a step fails, when the server ends."""

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import httpx
import openai
import pytest
from running_server import MODEL, Running, running, tiny_model

import hnet_lm
from hnet_lm.generation import Engine, EngineLimits, Request, SamplingParams
from hnet_lm.model import HNetLM
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.routes import looking
from hnet_lm.serving.routes.looking import encoded_chunks
from hnet_lm.serving.runner import ModelRunner

LONG = {"model": MODEL, "prompt": "a", "max_tokens": 4000, "ignore_eos": True}


def test_a_server_that_has_ended_keeps_no_model() -> None:
    model = tiny_model(["m1", ["T1"], "m1"])
    with running({MODEL: model}) as server:
        body = {"model": MODEL, "prompt": "a", "max_tokens": 3}
        assert httpx.post(f"{server.url}/v1/completions", json=body).status_code == 200
        assert server.figure("requests_total") >= 1
    kept = weakref.ref(model)
    del model, server
    gc.collect()
    assert kept() is None


@contextmanager
def streaming(url: str, **fields: int) -> Iterator[Iterator[str]]:
    """A long stream of which the first line is here; who leaves the block, leaves the stream."""
    request = {**LONG, "stream": True, **fields}
    with httpx.stream("POST", f"{url}/v1/completions", json=request, timeout=30) as answer:
        lines = answer.iter_lines()
        next(lines)
        yield lines


def test_a_client_that_leaves_a_stream_frees_its_slot(server: Running):
    with streaming(server.url, n=3):
        server.until(lambda: server.figure("active") == 3)
    server.until(lambda: server.figure("active") == 0)
    assert server.figure("state_bytes") == 0
    assert server.figure("cancelled_total") >= 3


def test_a_client_that_does_not_wait_for_its_answer_frees_its_slot(server: Running):
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/completions", json=LONG, timeout=0.5)
    server.until(lambda: server.figure("active") == 0)


def test_too_many_requests_are_429_and_those_that_wait_get_their_turn(model: HNetLM):
    with running({MODEL: model}, RequestLimits(max_waiting=1), EngineLimits(max_active=1)) as server:
        short = {"model": MODEL, "prompt": "a", "max_tokens": 3, "ignore_eos": True}
        with streaming(server.url):
            waiting: list[httpx.Response] = []
            waiter = threading.Thread(
                target=lambda: waiting.append(httpx.post(f"{server.url}/v1/completions", json=short))
            )
            waiter.start()
            server.until(lambda: server.figure("queued") == 1)
            refused = httpx.post(f"{server.url}/v1/completions", json=short)
            assert refused.status_code == 429
            assert refused.json()["error"]["code"] == "rate_limit_exceeded"
            assert refused.headers["retry-after"] == "1"
            client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)
            with pytest.raises(openai.RateLimitError):
                client.completions.create(model=MODEL, prompt="a")
        waiter.join()
        assert waiting[0].json()["usage"]["completion_tokens"] == 3
        assert httpx.post(f"{server.url}/v1/completions", json=short).status_code == 200


def test_texts_that_are_done_make_room_and_too_many_are_429(model: HNetLM, monkeypatch: pytest.MonkeyPatch):
    may_go = threading.Event()

    def slow_chunks(model: HNetLM, index: int, text: bytes, in_base64: bool) -> bytes:
        assert may_go.wait(10)
        return encoded_chunks(model, index, text, in_base64)

    monkeypatch.setattr(looking, "encoded_chunks", slow_chunks)
    with running({MODEL: model}, RequestLimits(max_waiting=0)) as server:
        ask = partial(httpx.post, f"{server.url}/v1/chunks", json={"input": "a"}, timeout=20)
        first: list[int] = []
        waiter = threading.Thread(target=lambda: first.append(ask().status_code))
        waiter.start()
        server.until(lambda: server.figure("calls") == 1)
        assert ask().status_code == 429
        may_go.set()
        waiter.join()
        assert first == [200]
        for _ in range(3):
            server.until(lambda: server.figure("calls") == 0)
            assert ask().status_code == 200


def test_a_request_that_takes_too_long_is_504_and_a_stream_says_so(model: HNetLM):
    with running({MODEL: model}, RequestLimits(max_request_seconds=0.4)) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json=LONG)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "timeout"
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)
        stream = client.completions.create(
            model=MODEL, prompt="a", max_tokens=4000, stream=True, extra_body={"ignore_eos": True}
        )
        with pytest.raises(openai.APIError, match="longer than this server allows"):
            list(stream)
        server.until(lambda: server.figure("active") == 0)


def test_the_event_loop_answers_while_the_model_works(server: Running):
    with streaming(server.url, n=4):
        begin = time.monotonic()
        for _ in range(5):
            assert httpx.get(f"{server.url}/health").text == "ok\n"
        assert time.monotonic() - begin < 3
        chunks = httpx.post(f"{server.url}/v1/chunks", json={"input": "while a stream runs"})
        assert chunks.json()["data"][0]["num_bytes"] == 19


def test_streams_at_once_are_each_what_they_are_alone(server: Running, model: HNetLM):
    requests = [{"prompt": "x" * (i % 7), "max_tokens": 3 + i % 5, "seed": i} for i in range(16)]

    async def ask() -> list[str]:
        client = openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=0)

        async def one(request: dict) -> str:
            stream = await client.completions.create(model=MODEL, stream=True, **request)
            return "".join([chunk.choices[0].text async for chunk in stream])

        return await asyncio.gather(*map(one, requests))

    expected = [
        hnet_lm.generate(model, [r["prompt"]], max_new_bytes=r["max_tokens"], seed=r["seed"])[0] for r in requests
    ]
    assert asyncio.run(ask()) == expected


def test_a_step_that_fails_ends_those_that_run_and_no_others(model: HNetLM, monkeypatch: pytest.MonkeyPatch):
    healthy = Engine.step
    failures = iter([RuntimeError("out of memory")])

    def step(engine: Engine) -> list:
        for failure in failures:
            raise failure
        return healthy(engine)

    monkeypatch.setattr(Engine, "step", step)
    with running({MODEL: model}) as server:
        request = {"prompt": "a", "max_tokens": 3, "ignore_eos": True}
        failed = httpx.post(f"{server.url}/v1/completions", json=request)
        assert failed.status_code == 500
        assert failed.json()["error"] == {
            "message": "the server failed on this request",
            "type": "server_error",
            "param": None,
            "code": "internal_error",
        }
        assert httpx.post(f"{server.url}/v1/completions", json=request).status_code == 200


def test_of_requests_that_come_together_all_are_taken_or_none(model: HNetLM):
    async def submit() -> None:
        runner = ModelRunner(MODEL, model, EngineLimits(), RequestLimits(max_waiting=0), Metrics())
        runner.start()
        deadline = asyncio.get_running_loop().time() + 5
        params = SamplingParams(max_new_bytes=2)
        with pytest.raises(hnet_lm.UserError, match="0xfe"):
            await runner.submit([Request(b"a", params), Request(b"\xfe", params)], deadline)
        with pytest.raises(ApiError, match="64 may"):
            await runner.submit([Request(b"a", params)] * 65, deadline)
        with await runner.submit([Request(b"a", params)] * 64, deadline) as handle:
            finished = [index async for index, event in handle.events() if event.finish_reason is not None]
        assert sorted(finished) == list(range(64))
        await runner.stop()
        assert not runner.is_alive

    asyncio.run(submit())


@pytest.mark.parametrize("is_patient", [True, False])
def test_at_sigterm_streams_finish_within_the_drain_time(saved: Path, is_patient: bool):
    drain = "20" if is_patient else "1"
    command = [sys.executable, "-c", "from hnet_lm.cli.main import main; main()", "serve", str(saved), "--port", "0"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [*command, "--drain-seconds", drain, "--log-requests"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        url = process.stdout.readline().split()[3]
        pieces: list[str] = []
        with streaming(url, max_tokens=60 if is_patient else 8000) as lines:
            process.send_signal(signal.SIGTERM)
            try:
                pieces += [line for line in lines if line.startswith("data:")]
            except httpx.RemoteProtocolError:
                assert not is_patient
        assert process.wait(timeout=20) == -signal.SIGTERM  # after its orderly end uvicorn lets the signal through
        assert "127.0.0.1 POST /v1/completions 200 " in process.stderr.read()
    assert (pieces[-1:] == ["data: [DONE]"]) == is_patient
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/health")
    if is_patient:
        assert json.loads(pieces[-2].removeprefix("data: "))["choices"][0]["finish_reason"] == "length"
