"""The engine gives each request what it gets alone, whatever else is there, whenever it joins."""

import random
from collections import defaultdict
from collections.abc import Callable

import pytest
import torch

from hnet_lm.errors import UserError
from hnet_lm.generation import Engine, EngineLimits, Event, Request, RequestError, SamplingParams
from hnet_lm.generation.sampling import RandomStream, sample
from hnet_lm.model import HNetLM


def drain(engine: Engine, events: defaultdict[int, list[Event]] | None = None) -> defaultdict[int, list[Event]]:
    events = defaultdict(list) if events is None else events
    while engine.has_work:
        for event in engine.step():
            events[event.handle].append(event)
    return events


def output(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events)


def alone(model: HNetLM, request: Request) -> bytes:
    engine = Engine(model)
    handle = engine.submit(request)
    return output(drain(engine)[handle])


def plain_decoding(model: HNetLM, request: Request) -> bytes:
    """Without the engine: the whole text through the model for each new byte."""
    ids = [model.config.bos_id, *request.prompt]
    random_stream = RandomStream(request.params.seed)
    allowed = torch.zeros(1, model.config.vocab_size, dtype=torch.bool)
    allowed[0, :256] = True
    allowed[0, model.config.bos_id] = False
    allowed[0, model.config.eos_id] = not request.params.ignore_eos
    for _ in range(request.params.max_new_bytes):
        logits = model(torch.tensor(ids)).logits[-1:]
        byte = sample(logits, [request.params], [random_stream.next()], allowed, torch.zeros_like(allowed))[0]
        if byte == model.config.eos_id:
            break
        ids.append(int(byte))
    return bytes(ids[1 + len(request.prompt) :])


def mixed_requests(n: int) -> list[Request]:
    """Ragged prompts and lengths, greedy and sampled, with every kind of parameter."""
    rng = random.Random(0)
    words = ["", "\0", "😀", "The cat", "中文", "e\u0301", "def f(x):\n", "ACGTACGT"]
    requests = []
    for index in range(n):
        prompt = "".join(rng.choices(words, k=rng.randrange(12))).encode()
        params = SamplingParams(
            max_new_bytes=rng.randrange(1, 12),
            temperature=0.0 if index % 2 else rng.choice([0.5, 1.0]),
            top_k=rng.choice([0, 20]),
            top_p=rng.choice([1.0, 0.9]),
            min_p=rng.choice([0.0, 0.05]),
            repetition_penalty=rng.choice([1.0, 1.2]),
            seed=index,
            valid_utf8=index % 3 == 0,
            stop=(b"e",) if index % 5 == 0 else (),
        )
        requests.append(Request(prompt, params))
    return requests


@pytest.fixture(scope="module")
def single_outputs(model: HNetLM) -> list[bytes]:
    return [alone(model, request) for request in mixed_requests(64)]


def test_64_ragged_requests_at_once_give_what_each_gives_alone(model: HNetLM, single_outputs: list[bytes]):
    engine = Engine(model, EngineLimits(max_active=64, prefill_bytes=10_000))
    handles = [engine.submit(request) for request in mixed_requests(64)]
    events = drain(engine)
    assert [output(events[handle]) for handle in handles] == single_outputs
    assert len(set(single_outputs)) > 50


def test_joining_mid_flight_in_small_pieces_and_few_slots_changes_nothing(model: HNetLM, single_outputs: list[bytes]):
    engine = Engine(model, EngineLimits(max_active=14, prefill_bytes=29))
    rng = random.Random(1)
    requests = mixed_requests(64)
    order = rng.sample(range(64), 64)
    handles: dict[int, int] = {}
    events: defaultdict[int, list[Event]] = defaultdict(list)
    while order:
        for index in [order.pop() for _ in range(min(rng.randrange(6), len(order)))]:
            handles[index] = engine.submit(requests[index])
        for event in engine.step():
            events[event.handle].append(event)
    drain(engine, events)
    assert [output(events[handles[index]]) for index in range(64)] == single_outputs


@pytest.mark.parametrize("layout", [["m1t1"], ["m1", ["T1"], "m1"]])
def test_models_of_any_depth(layout: list, make_model: Callable[[list], HNetLM]):
    model = make_model(layout)
    requests = mixed_requests(8)
    engine = Engine(model, EngineLimits(prefill_bytes=23))
    handles = [engine.submit(request) for request in requests]
    events = drain(engine)
    assert [output(events[handle]) for handle in handles] == [alone(model, request) for request in requests]


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("prompt", ["", "\0", "😀", "The cat sat"])
def test_engine_equals_plain_decoding(model: HNetLM, prompt: str, temperature: float):
    request = Request(prompt.encode(), SamplingParams(max_new_bytes=8, temperature=temperature, seed=5))
    assert alone(model, request) == plain_decoding(model, request)


def test_a_long_prompt_does_not_stall_running_streams(model: HNetLM):
    engine = Engine(model, EngineLimits(prefill_bytes=16))
    params = SamplingParams(max_new_bytes=30, ignore_eos=True, seed=0)
    running = engine.submit(Request(b"a", params))
    engine.step()
    late = engine.submit(Request(b"x" * 200, params))
    for _ in range(12):
        events = engine.step()
        assert [event.handle for event in events] == [running]
        assert len(events[0].data) == 1
    assert late in {event.handle for event in engine.step()}


def test_cancel_frees_the_slot_at_once(model: HNetLM):
    engine = Engine(model, EngineLimits(max_active=2))
    params = SamplingParams(max_new_bytes=8, seed=0, ignore_eos=True)
    first, second, third, fourth = (engine.submit(Request(bytes([65 + i]), params)) for i in range(4))
    engine.step()
    size = engine.state_bytes
    assert engine.num_active == 2
    assert engine.cancel(first)
    assert engine.num_active == 1
    assert engine.state_bytes == size // 2
    assert engine.cancel(fourth)  # still queued
    events = drain(engine)
    assert set(events) == {second, third}
    assert output(events[third]) == alone(model, Request(b"C", params))
    assert not engine.cancel(first)
    assert not engine.cancel(second)


def test_state_never_passes_the_budget_and_requests_wait_for_room(model: HNetLM, single_outputs: list[bytes]):
    requests = mixed_requests(64)[:24]
    largest = max(len(request.prompt) + 1 + request.params.max_new_bytes for request in requests)
    budget = Engine(model).budget.state_bytes(3, largest)
    engine = Engine(model, EngineLimits(max_active=24, max_state_bytes=budget))
    handles = [engine.submit(request) for request in requests]
    events, sizes, widths = defaultdict(list), [], []
    while engine.has_work:
        for event in engine.step():
            events[event.handle].append(event)
        sizes.append(engine.state_bytes)
        widths.append(engine.num_active)
    assert max(sizes) <= budget
    assert 2 <= max(widths) < 24
    assert [output(events[handle]) for handle in handles] == single_outputs[:24]


@pytest.mark.parametrize("length", [10, 64, 65, 150, 300])
def test_the_reckoned_state_size_is_an_upper_bound(model: HNetLM, length: int):
    engine = Engine(model, EngineLimits(prefill_bytes=10_000))
    engine.submit(Request(b"ab" * (length // 2), SamplingParams(max_new_bytes=5, ignore_eos=True)))
    for _ in range(5):
        engine.step()
        assert engine.state_bytes <= engine.budget.state_bytes(1, length + 6)


def test_a_request_that_can_never_fit_is_refused_with_the_reason(model: HNetLM):
    engine = Engine(model, EngineLimits(max_state_bytes=Engine(model).budget.state_bytes(1, 100)))
    with pytest.raises(RequestError, match=r"a prompt of 200 bytes with 8 new ones may need [\d,]+ bytes of state"):
        engine.submit(Request(b"x" * 200, SamplingParams(max_new_bytes=8)))
    assert not engine.has_work


def test_wrong_engine_limits_are_refused(model: HNetLM):
    with pytest.raises(UserError, match="prefill_bytes must be a whole number, 1 or more, got 0"):
        Engine(model, EngineLimits(prefill_bytes=0))


def test_bytes_that_the_model_reads_as_bos_or_eos_are_refused(model: HNetLM, binary_model: HNetLM):
    with pytest.raises(RequestError, match="byte 2 is 0xff, which this model reads as the end of a text"):
        Engine(model).submit(Request(b"ab\xff"))
    with pytest.raises(RequestError, match="byte 0 is 0xfe, which this model reads as the start"):
        Engine(model).submit(Request(b"\xfe"))
    assert len(alone(binary_model, Request(b"\xfe\xff", SamplingParams(max_new_bytes=4, ignore_eos=True)))) == 4


def test_null_bytes_emoji_and_empty_prompts(binary_model: HNetLM):
    for prompt in (b"", b"\0", b"\0\0\0", "😀".encode(), "😀".encode()[:2]):
        request = Request(prompt, SamplingParams(max_new_bytes=6, seed=1, ignore_eos=True))
        assert alone(binary_model, request) == plain_decoding(binary_model, request)
