"""Who would wait too long for others is told so at once."""

import asyncio

import httpx
import pytest
from running_server import MODEL, running

from hnet_lm.generation import Engine, EngineLimits, Request, SamplingParams
from hnet_lm.model import HNetLM
from hnet_lm.serving import pace
from hnet_lm.serving.errors import ApiError
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.metrics import Metrics
from hnet_lm.serving.pace import Pace, Waits
from hnet_lm.serving.runner import ModelRunner

ONE = SamplingParams(max_new_bytes=1)


def test_a_pace_is_known_after_a_second_of_work_and_forgets_the_past():
    found = Pace()
    found.add(50, 0.5)
    assert found.seconds_for(100) == 0
    found.add(100, 1)
    assert found.seconds_for(100) == pytest.approx(1, rel=0.05)
    assert found.seconds_for(-1) == 0
    for _ in range(10):
        found.add(100, 10)
    assert found.seconds_for(100) == pytest.approx(10, rel=0.01)


def test_a_prompt_waits_for_no_more_of_others_than_its_own_length(model: HNetLM):
    engine = Engine(model, EngineLimits(max_active=2))
    for length in (9, 99, 999):  # one id more each
        engine.submit(Request(b"x" * length, ONE))
    waits = Waits()
    assert waits.before_reading(engine, [Request(b"x" * 99, ONE)]) == 0, "nothing is known yet"
    waits.add_step(4.0, num_read=400, num_ended=2)
    waits.add_step(0.0, num_read=0, num_ended=2)  # dropped
    slots = 2 / 1  # three are there and one comes, two may run: two must end, and one does in a second
    assert waits.before_reading(engine, [Request(b"x" * 99, ONE)]) == pytest.approx(slots + (10 + 100 + 100) / 100)
    assert waits.before_reading(engine, [Request(b"", ONE)]) == pytest.approx(slots + 3 / 100)
    assert waits.for_reading([Request(b"x" * 50, ONE)] * 4) == pytest.approx(2)


def test_who_would_wait_too_long_for_a_slot_is_429(model: HNetLM, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pace, "_LEAST_SECONDS", 0.0)
    limits = RequestLimits(max_waiting_seconds=1e-6, max_new_bytes=8192)
    with running({MODEL: model}, limits, EngineLimits(max_active=1)) as server:
        short = {"prompt": "a", "max_tokens": 2, "ignore_eos": True}
        assert httpx.post(f"{server.url}/v1/completions", json=short).status_code == 200
        long = {"prompt": "a", "max_tokens": 8000, "ignore_eos": True, "stream": True}
        with httpx.stream("POST", f"{server.url}/v1/completions", json=long, timeout=30) as answer:
            lines = answer.iter_lines()  # kept: without its iterator the answer is closed
            next(lines)
            refused = httpx.post(f"{server.url}/v1/completions", json=short)
            assert refused.status_code == 429
            assert "are allowed" in refused.json()["error"]["message"]
            assert int(refused.headers["retry-after"]) >= 1
        server.until(lambda: server.figure("active") == 0)
        assert httpx.post(f"{server.url}/v1/completions", json=short).status_code == 200, "it is idle: nobody waits"


def test_what_cannot_be_read_within_its_time_is_refused_at_once(model: HNetLM):
    async def submit() -> None:
        runner = ModelRunner(MODEL, model, EngineLimits(), RequestLimits(), Metrics())
        runner._waits.add_step(1000.0, num_read=1000, num_ended=1)
        runner.start()
        deadline = asyncio.get_running_loop().time() + 60
        endless = [Request(b"a", SamplingParams(max_new_bytes=8000, ignore_eos=True))]
        with await runner.submit(endless, deadline):
            with pytest.raises(ApiError, match="reading its prompts beside running requests takes about") as caught:
                await runner.submit([Request(b"x" * 5000, ONE)], deadline)
            assert caught.value.status == 429
            assert int((caught.value.headers or {})["Retry-After"]) > 1000
        await runner.stop()
        assert runner._num_open == 0

    asyncio.run(submit())
