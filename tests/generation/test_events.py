"""What the engine reports beside the bytes: stops, ends, log-probabilities, boundaries."""

import pytest
import torch

from hnet_lm.generation import Engine, EngineLimits, Event, Request, SamplingParams, vocabulary_of
from hnet_lm.generation.active_request import ActiveRequest, allowed_ids
from hnet_lm.generation.boundaries import ByteBoundary
from hnet_lm.model import HNetLM

FREE = SamplingParams(max_new_bytes=40, seed=0, ignore_eos=True)


def run(model: HNetLM, request: Request, prefill_bytes: int = 5) -> list[Event]:
    engine = Engine(model, EngineLimits(prefill_bytes=prefill_bytes))
    engine.submit(request)
    events = []
    while engine.has_work:
        events += engine.step()
    assert [event.finish_reason for event in events[:-1]] == [None] * (len(events) - 1)
    return events


def output(events: list[Event]) -> bytes:
    return b"".join(event.data for event in events)


@pytest.fixture(scope="module")
def free_output(model: HNetLM) -> bytes:
    return output(run(model, Request(b"The cat", FREE)))


def with_params(prompt: bytes = b"The cat", **changes: object) -> Request:
    return Request(
        prompt, SamplingParams.from_options(**{"max_new_bytes": 40, "seed": 0, "ignore_eos": True, **changes})
    )


def test_length_ends_a_request(model: HNetLM, free_output: bytes):
    events = run(model, with_params(max_new_bytes=7))
    assert output(events) == free_output[:7]
    assert events[-1].finish_reason == "length"


def test_no_new_bytes(model: HNetLM):
    events = run(model, with_params(max_new_bytes=0))
    assert [(e.data, e.text, e.finish_reason) for e in events] == [(b"", "", "length")]


@pytest.mark.parametrize("length", [1, 3, 9])
def test_a_stop_string_cuts_exactly_and_ends_the_request(model: HNetLM, free_output: bytes, length: int):
    stop = free_output[20 : 20 + length]
    events = run(model, with_params(stop=[stop, b"never there"], logprobs=1))
    assert output(events) == free_output[: free_output.index(stop)]
    assert events[-1].finish_reason == "stop"
    assert sum(len(event.logprobs) for event in events) == len(output(events))


def test_what_a_stop_held_back_comes_at_the_end(model: HNetLM, free_output: bytes):
    stop = free_output[30:] + b"never there"
    events = run(model, with_params(stop=stop, logprobs=0))
    assert output(events) == free_output
    assert len(events[-1].data) == 10
    assert sum(len(event.logprobs) for event in events) == 40


def test_text_is_the_decoded_data(model: HNetLM, free_output: bytes):
    events = run(model, with_params())
    assert "".join(event.text for event in events) == free_output.decode("utf-8", "replace")


def test_the_end_of_the_text(model: HNetLM):
    likeliest = output(run(model, with_params(temperature=0)))
    with torch.no_grad():
        assert model.lm_head is not None
        kept = model.lm_head.weight.clone()
        model.lm_head.weight[model.config.eos_id] = 2 * model.lm_head.weight[likeliest[5]]
    try:
        events = run(model, with_params(temperature=0, ignore_eos=False))
        ignored = run(model, with_params(temperature=0))
    finally:
        model.lm_head.weight.copy_(kept)
    assert events[-1].finish_reason == "eos"
    assert len(output(events)) < 40
    assert output(ignored).startswith(output(events))
    assert len(output(ignored)) == 40


@pytest.mark.parametrize("seed", range(3))
def test_forced_utf8_is_valid_to_its_last_byte(model: HNetLM, seed: int):
    for max_new_bytes in (1, 2, 3, 20):
        prompt = "中".encode()[: seed % 3]  # goes on inside the prompt's character
        request = with_params(prompt, seed=seed, max_new_bytes=max_new_bytes + 3, temperature=5.0, valid_utf8=True)
        (prompt + output(run(model, request))).decode("utf-8")


def test_with_forced_utf8_the_end_comes_only_between_characters(model: HNetLM):
    vocabulary = vocabulary_of(model.config, None)

    def may_end(prompt: bytes, **params: object) -> bool:
        request = ActiveRequest(0, with_params(prompt, **params), vocabulary)
        return bool(allowed_ids([request], vocabulary)[0, vocabulary.eos_id])

    for prompt in ("中".encode()[:1], "😀".encode()[:3], b"a\xc3"):
        assert not may_end(prompt, valid_utf8=True, ignore_eos=False)
        assert may_end(prompt, valid_utf8=False, ignore_eos=False)
    assert may_end("中".encode(), valid_utf8=True, ignore_eos=False)
    assert not may_end("中".encode(), valid_utf8=True, ignore_eos=True)


def test_log_probabilities_are_those_of_the_whole_text(model: HNetLM):
    events = run(model, Request(b"The cat", SamplingParams(max_new_bytes=9, seed=0, logprobs=3), prompt_logprobs=True))
    text = b"The cat" + output(events)
    expected = model(torch.tensor([model.config.bos_id, *text])).logits.double().log_softmax(-1)
    found = [item for e in events for item in e.prompt_logprobs] + [item for e in events for item in e.logprobs]
    assert bytes(item.byte for item in found) == text
    for row, item in enumerate(found):
        assert item.logprob == pytest.approx(float(expected[row, item.byte]), abs=1e-4)
        assert [value for _, value in item.top] == pytest.approx(expected[row].topk(3).values.tolist(), abs=1e-4)


@pytest.mark.parametrize("prefill_bytes", [3, 100])
def test_boundaries_are_those_of_the_whole_text(model: HNetLM, prefill_bytes: int):
    request = Request(b"The cat sat on", FREE, boundaries=True)
    events = run(model, request, prefill_bytes)
    text = b"The cat sat on" + output(events)
    found = [boundary for event in events for boundary in event.boundaries]
    outer, inner = model(torch.tensor([model.config.bos_id, *text[:-1]])).routings
    inner_rows = outer.is_boundary.cumsum(0) - 1
    assert len(found) == len(text) - 1
    for row, boundary in enumerate(found, start=1):
        probs = [float(outer.boundary_prob[row])]
        depth = int(outer.is_boundary[row])
        if depth:
            probs.append(float(inner.boundary_prob[inner_rows[row]]))
            depth += int(inner.is_boundary[inner_rows[row]])
        assert boundary == ByteBoundary(pytest.approx(tuple(probs), abs=1e-4), depth)  # pyright: ignore[reportArgumentType]  equal to a tuple
    assert {boundary.depth for boundary in found} == {0, 1, 2}


def test_logits_that_are_not_finite_end_only_their_own_request(model: HNetLM):
    engine = Engine(model)
    with torch.no_grad():
        kept = model.embedding.weight[0xF8].clone()
        model.embedding.weight[0xF8] = torch.nan  # a byte that the other request cannot choose
    try:
        broken, whole = (engine.submit(with_params(prompt, valid_utf8=True)) for prompt in (b"a\xf8", b"The cat"))
        events = [event for _ in range(45) for event in engine.step()]
    finally:
        model.embedding.weight[0xF8] = kept
    assert [event.finish_reason for event in events if event.handle == broken] == ["error"]
    assert len(output([event for event in events if event.handle == whole])) == 40


def test_the_end_that_the_model_chose_has_a_log_probability(model: HNetLM):
    def want_the_end(_: torch.nn.Module, __: tuple, logits: torch.Tensor) -> torch.Tensor:
        return logits.index_fill(-1, torch.tensor([model.config.eos_id]), 100.0)

    hook = model.lm_head.register_forward_hook(want_the_end)
    try:
        events = run(model, Request(b"The cat", SamplingParams(max_new_bytes=5, seed=0, logprobs=2)))
        silent = run(model, Request(b"The cat", SamplingParams(max_new_bytes=5, seed=0)))
    finally:
        hook.remove()
    assert (output(events), events[-1].finish_reason) == (b"", "eos")
    (entry,) = [item for event in events for item in event.logprobs]
    assert entry.byte == entry.top[0][0] == model.config.eos_id
    assert entry.logprob == pytest.approx(0, abs=1e-6)
    assert len(entry.top) == 2
    assert not any(event.logprobs for event in silent)
