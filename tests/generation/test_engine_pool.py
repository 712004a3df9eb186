"""Requests that outgrow the pool of keys and values wait, are put back and go on as if nothing had happened."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch

from hnet_lm.generation import Engine, EngineLimits, Event, Request, RequestError, SamplingParams, score
from hnet_lm.generation.active_request import ActiveRequest
from hnet_lm.model import HNetLM

PAGE = 16 * 2 * 64 * 4
"""Bytes: 16 positions of a key and a value of 64 float32 numbers."""


@pytest.fixture(scope="module")
def keeps_all(make_model: Callable[..., HNetLM]) -> HNetLM:
    """Every layer keeps all keys and values: of 16 positions, and of 16 chunks, a page each."""
    return make_model(["t1", ["T1"], "t1"], windows=(-1, -1))


@pytest.fixture
def put_back(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Of every request that is put back: its handle, and how many ids it had read."""
    recorded: list[tuple[int, int]] = []
    start_again = ActiveRequest.start_again

    def record(request: ActiveRequest, num_pages: int) -> None:
        recorded.append((request.handle, request.num_read))
        start_again(request, num_pages)

    monkeypatch.setattr(ActiveRequest, "start_again", record)
    return recorded


def serve(engine: Engine, requests: Sequence[Request]) -> list[list[Event]]:
    handles = [engine.submit(request) for request in requests]
    events: defaultdict[int, list[Event]] = defaultdict(list)
    while engine.has_work:
        for event in engine.step():
            events[event.handle].append(event)
        pool = engine.stepper.pool
        assert 0 <= pool.num_free <= pool.num_pages
    assert engine.stepper.pool.num_free == engine.stepper.pool.num_pages
    assert engine.state_bytes == 0
    return [events[handle] for handle in handles]


def joined(events: Sequence[Event], field: str) -> Any:
    parts = [getattr(event, field) for event in events]
    return b"".join(parts) if field == "data" else "".join(parts) if field == "text" else [x for p in parts for x in p]


def some_requests(num: int, new_bytes: int = 24) -> list[Request]:
    params = [
        SamplingParams(max_new_bytes=new_bytes, seed=i, ignore_eos=True, logprobs=i % 3, stop=("never there",))
        for i in range(num)
    ]
    return [
        Request(b"The cat sat on the mat. "[: 10 + 3 * i], p, prompt_logprobs=True, boundaries=True)
        for i, p in enumerate(params)
    ]


def assert_same(found: list[list[Event]], expected: list[list[Event]]) -> None:
    for some, others in zip(found, expected, strict=True):
        for field in ("data", "text"):
            assert joined(some, field) == joined(others, field)
        for field in ("logprobs", "prompt_logprobs"):
            ours, theirs = joined(some, field), joined(others, field)
            assert [item.byte for item in ours] == [item.byte for item in theirs]
            assert [item.logprob for item in ours] == pytest.approx([item.logprob for item in theirs], abs=1e-4)
            assert [len(item.top) for item in ours] == [len(item.top) for item in theirs]
        assert [b.depth for b in joined(some, "boundaries")] == [b.depth for b in joined(others, "boundaries")]
        assert [e.finish_reason for e in some if e.finish_reason] == [
            e.finish_reason for e in others if e.finish_reason
        ]


@pytest.mark.parametrize("num_pages", [12, 18])
def test_put_back_and_read_again_nothing_is_lost_or_told_twice(
    keeps_all: HNetLM, put_back: list[tuple[int, int]], num_pages: int
) -> None:
    requests = some_requests(4)
    expected = serve(Engine(keeps_all), requests)
    assert not put_back
    found = serve(Engine(keeps_all, EngineLimits(prefill_bytes=20, pool_bytes=num_pages * PAGE)), requests)
    assert_same(found, expected)
    assert len(put_back) >= 2
    assert any(num_read > 25 for _, num_read in put_back)  # not only in their prompts


def test_the_youngest_goes_first_and_the_oldest_never(keeps_all: HNetLM, put_back: list[tuple[int, int]]) -> None:
    engine = Engine(keeps_all, EngineLimits(pool_bytes=12 * PAGE))
    active: list[list[int]] = []
    keep = engine._put_back

    def note(request: ActiveRequest) -> None:
        active.append([request.handle for request in engine._active])
        keep(request)

    engine._put_back = note
    finished = [handle for handle, events in enumerate(serve(engine, some_requests(4))) if events[-1].finish_reason]
    assert finished == [0, 1, 2, 3]
    assert put_back
    assert [handle for handle, _ in put_back] == [max(handles) for handles in active]
    assert all(min(handles) != max(handles) for handles in active)


def test_requests_wait_while_the_pool_is_full(keeps_all: HNetLM) -> None:
    """One holds nearly everything: the second, however short, has to wait for it."""
    params = SamplingParams(max_new_bytes=4, ignore_eos=True, seed=0)
    engine = Engine(keeps_all, EngineLimits(prefill_bytes=10_000, pool_bytes=50 * PAGE))
    long = engine.submit(Request(b"ab" * 140, params))
    engine.step()
    assert engine.stepper.pool.num_free < 12
    short = engine.submit(Request(b"x" * 80, params))
    events = engine.step()
    assert (engine.num_active, engine.num_queued) == (1, 1)
    while engine.has_work:
        events += engine.step()
    assert [event.handle for event in events if event.finish_reason] == [long, short]


def test_a_long_prompt_is_served_where_its_worst_case_would_not_fit(
    keeps_all: HNetLM, make_model: Callable[..., HNetLM]
) -> None:
    """Every byte could be a chunk; how many are shows only as it is read."""
    model = make_model(["m1", ["T4"], "m1"], windows=(-1, -1))
    prompt = (b"the cat sat on the mat; the dog sat on the log. " * 42)[:2000]
    request = Request(prompt, SamplingParams(max_new_bytes=5, ignore_eos=True, temperature=0))
    ids = torch.tensor([model.config.bos_id, *prompt])
    num_chunks = int(model(ids).routings[0].is_boundary.sum())
    assert num_chunks < 1600
    num_pages = 4 * (num_chunks // 16 + 2)
    engine = Engine(model, EngineLimits(pool_bytes=num_pages * PAGE))
    assert engine.stepper.pool.num_pages == num_pages < 4 * 2000 // 16
    [events] = serve(engine, [request])
    [expected] = serve(Engine(model), [request])
    assert joined(events, "data") == joined(expected, "data")
    assert len(joined(events, "data")) == 5


def test_a_request_that_outgrows_the_pool_alone_ends_with_length(
    keeps_all: HNetLM, put_back: list[tuple[int, int]]
) -> None:
    request = Request(b"The cat", SamplingParams(max_new_bytes=80, ignore_eos=True, seed=1, stop=("zzzz",), logprobs=0))
    [expected] = serve(Engine(keeps_all), [request])
    [events] = serve(Engine(keeps_all, EngineLimits(pool_bytes=9 * PAGE)), [request])
    data = joined(events, "data")
    assert 16 < len(data) < 70
    assert joined(expected, "data").startswith(data)
    assert len(joined(events, "logprobs")) == len(data)
    assert events[-1].finish_reason == "length"
    assert not put_back


def test_a_prompt_whose_outermost_layers_alone_need_more_is_refused(keeps_all: HNetLM) -> None:
    engine = Engine(keeps_all, EngineLimits(pool_bytes=9 * PAGE))
    with pytest.raises(RequestError, match=r"a prompt of 64 bytes needs 90,112 bytes .* the whole pool has 73,728"):
        engine.submit(Request(b"x" * 64))  # 65 positions: five pages in each of two layers, one within
    engine.submit(Request(b"x" * 63))
    assert engine.num_queued == 1


def test_a_score_is_of_the_whole_text_or_an_error(keeps_all: HNetLM) -> None:
    limits = EngineLimits(pool_bytes=9 * PAGE, prefill_bytes=7)
    with pytest.raises(RequestError, match=r"a text of 62 bytes outgrows the pool of keys and values after \d+"):
        score(keeps_all, ["The cat sat on the mat. The dog"], [" sat on the log. The owl did no"], limits=limits)


def test_cancelled_requests_leave_nothing_behind(keeps_all: HNetLM, put_back: list[tuple[int, int]]) -> None:
    engine = Engine(keeps_all, EngineLimits(pool_bytes=9 * PAGE))
    handles = [engine.submit(request) for request in some_requests(4)]
    while not put_back:
        engine.step()
    assert engine.cancel(put_back[0][0])
    assert engine.cancel(handles[0])
    engine.step()
    engine.cancel_all()
    assert not engine.has_work
    assert engine.stepper.pool.num_free == engine.stepper.pool.num_pages
    assert engine.state_bytes == 0


def test_the_pool_is_as_large_as_the_weights_and_one_gibibyte_at_least(keeps_all: HNetLM) -> None:
    assert EngineLimits().pool_bytes_of(keeps_all) == 2**30
    large = HNetLM.__new__(HNetLM)
    torch.nn.Module.__init__(large)
    large.weight = torch.nn.Parameter(torch.empty(2**29, device="meta"))  # pyright: ignore[reportArgumentType]  a module by its name
    assert EngineLimits().pool_bytes_of(large) == 2**31
    assert EngineLimits(pool_bytes=5).pool_bytes_of(large) == 5
