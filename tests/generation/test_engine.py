"""The engine gives each request what it gets alone, whatever else is there, whenever it joins."""

import random
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace

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
        seen = torch.zeros_like(allowed)
        seen[0, ids[1:]] = True
        byte = sample(logits, [request.params], [random_stream.next()], allowed, seen)[0]
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


def test_prompts_share_the_bytes_of_a_step(model: HNetLM):
    """Half for the oldest, what is left for the shortest; what that leaves is the oldest's again."""
    engine = Engine(model, EngineLimits(prefill_bytes=16))
    params = SamplingParams(max_new_bytes=1, ignore_eos=True, seed=0)
    handles = [engine.submit(Request(b"x" * n, params, prompt_logprobs=True)) for n in (24, 30, 4)]
    told = []
    while engine.has_work:
        counts = {event.handle: len(event.prompt_logprobs) for event in engine.step()}
        told.append([counts.get(handle, 0) for handle in handles])
    # one id more each, of which the last is no prompt byte's predecessor
    assert told == [[8, 3, 4], [8, 8, 0], [8, 8, 0], [0, 11, 0]]


def test_a_short_prompt_does_not_wait_for_longer_ones_and_these_are_read_all_the_same(model: HNetLM):
    engine = Engine(model, EngineLimits(prefill_bytes=16, max_active=200))
    params = SamplingParams(max_new_bytes=1, ignore_eos=True, seed=0)
    long = [engine.submit(Request(b"x" * 300, params)) for _ in range(2)]
    finished: set[int] = set()
    num_steps = 0
    while not finished.issuperset(long[:1]):
        short = engine.submit(Request(b"abcdefg", params))  # in every step one more: half of what can be read
        finished |= {event.handle for event in engine.step() if event.finish_reason}
        num_steps += 1
        assert short in finished
    assert num_steps == -(-301 // 8)


def test_a_step_reads_less_behind_a_long_context(model: HNetLM):
    engine = Engine(model, EngineLimits(prefill_bytes=1024))
    engine.submit(Request(b"x" * 8000, SamplingParams(max_new_bytes=0), prompt_logprobs=True))
    counts = [sum(len(event.prompt_logprobs) for event in engine.step()) for _ in range(7)]
    assert counts == [1024, 1024, 512, 512, 512, 512, 341]


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
    assert engine.num_queued == 2
    assert engine.cancel(fourth)  # still queued
    events = drain(engine)
    assert set(events) == {second, third}
    assert output(events[third]) == alone(model, Request(b"C", params))
    assert not engine.cancel(first)
    assert not engine.cancel(second)


def test_wrong_engine_limits_are_refused(model: HNetLM):
    with pytest.raises(UserError, match="prefill_bytes: must be a whole number, 1 or more, got 0"):
        Engine(model, EngineLimits(prefill_bytes=0))
    with pytest.raises(UserError, match=r"pool_bytes: must be a whole number, 1 or more, got 1\.5"):
        Engine(model, EngineLimits(pool_bytes=1.5))  # pyright: ignore[reportArgumentType]  wrong on purpose
    with pytest.raises(UserError, match="keys_values: must be one of 'float32', 'bfloat16', got 'int8'"):
        Engine(model, EngineLimits(keys_values="int8"))  # pyright: ignore[reportArgumentType]  wrong on purpose
    with pytest.raises(
        UserError, match="a pool of 1,000 bytes is too small for the keys and values of even one stream"
    ):
        Engine(model, EngineLimits(pool_bytes=1000))


def test_bytes_that_the_model_reads_as_bos_or_eos_are_refused(model: HNetLM, binary_model: HNetLM):
    with pytest.raises(RequestError, match="byte 2 is 0xff, which this model reads as the end of a text"):
        Engine(model).submit(Request(b"ab\xff"))
    with pytest.raises(RequestError, match="byte 0 is 0xfe, which this model reads as the start"):
        Engine(model).submit(Request(b"\xfe"))
    assert len(alone(binary_model, Request(b"\xfe\xff", SamplingParams(max_new_bytes=4, ignore_eos=True)))) == 4


def test_the_repetition_penalty_counts_prompt_and_output(model: HNetLM):
    params = SamplingParams(max_new_bytes=40, temperature=0, repetition_penalty=1e9, ignore_eos=True)
    request = Request(b"The cat sat", params)
    text = request.prompt + alone(model, request)
    assert len(set(text[len(request.prompt) :])) == 40
    assert not set(request.prompt) & set(text[len(request.prompt) :])
    shorter = Request(request.prompt, replace(params, max_new_bytes=8, repetition_penalty=1.3))
    assert alone(model, shorter) == plain_decoding(model, shorter)


def test_each_request_gets_as_many_logprobs_as_it_asked_for(model: HNetLM):
    engine = Engine(model)
    handles = {
        engine.submit(Request(b"a", SamplingParams(max_new_bytes=3, ignore_eos=True, logprobs=num))): num
        for num in (1, 5, 0)
    }
    events = drain(engine)
    for handle, num in handles.items():
        assert [len(item.top) for event in events[handle] for item in event.logprobs] == [num] * 3


def test_null_bytes_emoji_and_empty_prompts(binary_model: HNetLM):
    for prompt in (b"", b"\0", b"\0\0\0", "😀".encode(), "😀".encode()[:2]):
        request = Request(prompt, SamplingParams(max_new_bytes=6, seed=1, ignore_eos=True))
        assert alone(binary_model, request) == plain_decoding(binary_model, request)
