"""The official OpenAI client against a running server."""

import base64
import math
from collections.abc import Iterator

import numpy as np
import openai
import pytest
from running_server import MODEL, Running, ending_model, running

import hnet_lm
from hnet_lm.generation import vocabulary_of
from hnet_lm.model import HNetLM

PROMPT = "the 猫 sat 🐈"


def test_models_are_listed_and_described(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == [MODEL]
    assert client.models.retrieve(MODEL).owned_by == "hnet-lm"
    with pytest.raises(openai.NotFoundError, match="there are 'tiny'"):
        client.models.retrieve("gpt-4")


@pytest.mark.parametrize("prompt", [PROMPT, "", "a\x00b", "🐈"])
def test_a_completion_is_what_the_library_generates(client: openai.OpenAI, model: HNetLM, prompt: str):
    answer = client.completions.create(model=MODEL, prompt=prompt, max_tokens=20, temperature=0.8, top_p=0.9, seed=5)
    (expected,) = hnet_lm.generate(model, [prompt], max_new_bytes=20, temperature=0.8, top_p=0.9, seed=5)
    assert answer.choices[0].text == expected
    assert answer.choices[0].finish_reason in ("stop", "length")
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == len(prompt.encode())
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_our_own_parameters_reach_the_engine(client: openai.OpenAI, model: HNetLM):
    ours = {"top_k": 5, "min_p": 0.1, "repetition_penalty": 1.3, "valid_utf8": True, "ignore_eos": True}
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=40, seed=1, extra_body=ours)
    (expected,) = hnet_lm.generate(model, [PROMPT], max_new_bytes=40, seed=1, **ours)
    assert answer.choices[0].text == expected
    assert "\ufffd" not in answer.choices[0].text
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 40


def test_the_texts_of_a_stream_joined_are_the_answer_in_one_piece(client: openai.OpenAI):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 80, "seed": 3, "extra_body": {"ignore_eos": True}}
    whole = client.completions.create(**options)
    chunks = list(client.completions.create(**options, stream=True, stream_options={"include_usage": True}))
    assert "".join(chunk.choices[0].text for chunk in chunks[:-1]) == whole.choices[0].text
    assert len(chunks) > 20
    assert [chunk.choices[0].finish_reason for chunk in chunks[:-1] if chunk.choices[0].finish_reason] == ["length"]
    assert chunks[-1].choices == []
    assert chunks[-1].usage == whole.usage
    assert len({chunk.id for chunk in chunks}) == 1


def test_n_choices_of_several_prompts_use_seeds_that_follow_each_other(client: openai.OpenAI, model: HNetLM):
    prompts = [PROMPT, "second"]
    answer = client.completions.create(model=MODEL, prompt=prompts, n=3, max_tokens=12, seed=10)
    expected = [
        hnet_lm.generate(model, [prompt], max_new_bytes=12, seed=10 + i)[0] for prompt in prompts for i in range(3)
    ]
    assert [choice.index for choice in answer.choices] == list(range(6))
    assert [choice.text for choice in answer.choices] == expected
    assert len(set(expected)) == 6
    streamed = [""] * 6
    for chunk in client.completions.create(model=MODEL, prompt=prompts, n=3, max_tokens=12, seed=10, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].text
    assert streamed == expected


def test_a_stop_string_ends_the_text_before_it(client: openai.OpenAI):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 40, "seed": 3, "extra_body": {"valid_utf8": True}}
    free = client.completions.create(**options).choices[0].text
    stop = free[15:18]
    for given in (stop, ["never to be seen", stop]):
        choice = client.completions.create(**options, stop=given).choices[0]
        assert choice.text == free[: free.index(stop)]
        assert choice.finish_reason == "stop"
    streamed = client.completions.create(**options, stop=stop, stream=True)
    assert "".join(chunk.choices[0].text for chunk in streamed) == free[: free.index(stop)]


def test_log_probabilities_are_the_models(client: openai.OpenAI, model: HNetLM):
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=30, seed=2, logprobs=3)
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.top_logprobs is not None
    data = b"".join(_byte(token) for token in logprobs.tokens if token != "<eos>")
    assert data.decode("utf-8", "replace") == answer.choices[0].text
    (scored,) = hnet_lm.score(model, [PROMPT], [data])
    assert logprobs.token_logprobs[: len(data)] == pytest.approx(scored.byte_logprobs, abs=1e-4)
    assert all(len(top) == 3 and max(top.values()) <= 0 for top in logprobs.top_logprobs)


def test_echo_with_log_probabilities_scores_a_text(client: openai.OpenAI, model: HNetLM):
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=0, echo=True, logprobs=0)
    choice = answer.choices[0]
    assert choice.text == PROMPT
    assert choice.logprobs is not None
    assert choice.logprobs.token_logprobs is not None
    (scored,) = hnet_lm.score(model, [""], [PROMPT])
    assert choice.logprobs.token_logprobs == pytest.approx(scored.byte_logprobs, abs=1e-4)
    assert choice.logprobs.text_offset == [i for i, c in enumerate(PROMPT) for _ in c.encode()]
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 0


@pytest.fixture(scope="module")
def ending(client: openai.OpenAI) -> Iterator[openai.OpenAI]:
    """A client of a model that ends the text after PROMPT."""
    with running({MODEL: ending_model(PROMPT)}) as server:
        yield client.with_options(base_url=f"{server.url}/v1")


def test_the_end_that_the_model_chose_has_a_log_probability(ending: openai.OpenAI):
    """lm-eval's local-completions takes all entries but the last, and relies on there being one more than bytes."""
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 1, "temperature": 0, "logprobs": 2, "echo": True}
    whole = ending.completions.create(**options)
    choice = whole.choices[0]
    assert choice.text == PROMPT
    assert choice.finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.completion_tokens == 0
    logprobs = choice.logprobs
    assert logprobs is not None
    assert logprobs.tokens is not None
    assert logprobs.token_logprobs is not None
    assert logprobs.top_logprobs is not None
    assert logprobs.text_offset is not None
    num_bytes = len(PROMPT.encode())
    assert len(logprobs.tokens) == num_bytes + 1
    assert logprobs.tokens[-1] == "<eos>"
    assert logprobs.token_logprobs[-1] == pytest.approx(logprobs.top_logprobs[-1]["<eos>"])
    assert math.exp(logprobs.token_logprobs[-1]) > 0.5
    assert len(logprobs.top_logprobs[-1]) == 2
    assert logprobs.text_offset[-1] == len(PROMPT)
    alone = ending.completions.create(**{**options, "echo": False}).choices[0].logprobs
    assert alone is not None
    assert (alone.tokens, alone.text_offset) == (["<eos>"], [0])
    scored = ending.completions.create(**{**options, "max_tokens": 0}).choices[0].logprobs
    assert scored is not None
    assert scored.tokens == logprobs.tokens[:-1]
    last = list(ending.completions.create(**options, stream=True))[-1].choices[0]
    assert last.finish_reason == "stop"
    assert last.logprobs is not None
    assert last.logprobs.tokens is not None
    assert last.logprobs.tokens[-1] == "<eos>"


def test_every_answer_of_one_new_byte_has_one_entry_more_than_the_prompt(ending: openai.OpenAI):
    prompts = [PROMPT[:end] for end in range(len(PROMPT) + 1)]
    options = {"max_tokens": 1, "temperature": 0, "logprobs": 0, "echo": True}
    choices = ending.completions.create(model=MODEL, prompt=prompts, **options).choices
    assert {choice.finish_reason for choice in choices} == {"stop", "length"}
    for prompt, choice in zip(prompts, choices, strict=True):
        assert choice.logprobs is not None
        assert choice.logprobs.token_logprobs is not None
        assert len(choice.logprobs.token_logprobs) == len(prompt.encode()) + 1


def test_offsets_of_new_bytes_go_on_from_the_prompt_where_it_is_echoed(client: openai.OpenAI):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 10, "seed": 1, "logprobs": 0}
    extra = {"valid_utf8": True, "ignore_eos": True}
    for echo, before in ((True, len(PROMPT.encode())), (False, 0)):
        choice = client.completions.create(**options, echo=echo, extra_body=extra).choices[0]
        assert choice.logprobs is not None
        expected = [i for i, c in enumerate(choice.text) for _ in c.encode()]
        assert choice.logprobs.text_offset == expected
        assert len(expected) == before + 10


def test_names_of_bytes(model: HNetLM):
    ids = (model.config.bos_id, model.config.eos_id, 0xE4, 0x41, 0x0A)
    names = [vocabulary_of(model.config, None).name(id) for id in ids]
    assert names == ["<bos>", "<eos>", "bytes:\\xe4", "A", "\n"]


def test_usage_and_figures_count_all_choices(client: openai.OpenAI, server: Running):
    before = {name: server.figure(f"{name}_bytes_total") for name in ("prompt", "new")}
    options = {"model": MODEL, "prompt": ["abc", "猫"], "n": 3, "max_tokens": 12}
    usage = client.completions.create(**options, extra_body={"ignore_eos": True}).usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (6, 72, 78)
    assert server.figure("new_bytes_total") - before["new"] == 72
    assert server.figure("prompt_bytes_total") - before["prompt"] == 3 * 6


def test_echo_streams_the_prompt_first(client: openai.OpenAI):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 20, "seed": 1, "echo": True}
    whole = client.completions.create(**options).choices[0].text
    assert whole.startswith(PROMPT)
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True)) == whole


def test_a_prompt_may_be_given_as_bytes(client: openai.OpenAI, model: HNetLM):
    answer = client.completions.create(model=MODEL, prompt=[0x66, 0x80, 0x00], max_tokens=20, temperature=0)
    assert answer.choices[0].text == hnet_lm.generate(model, [b"f\x80\x00"], max_new_bytes=20, temperature=0)[0]


def test_chunks_in_base64_are_those_in_json(client: openai.OpenAI, server: Running):
    plain = server.chunks("the cat sat")["stages"]
    body = {"input": "the cat sat", "encoding_format": "base64"}
    packed = client.post("/chunks", body=body, cast_to=object)["data"][0]
    assert packed["num_bytes"] == 11
    offsets = list(range(11))
    for stage, wanted in zip(packed["stages"], plain, strict=True):
        assert stage.keys() == {"boundary_prob", "starts"}
        probs = np.frombuffer(base64.b64decode(stage["boundary_prob"]), "<f4")
        starts = np.frombuffer(base64.b64decode(stage["starts"]), "<u4")
        assert probs.tolist() == pytest.approx(wanted["boundary_prob"], abs=1e-6)
        assert offsets == wanted["offsets"]
        assert (offsets := starts.tolist()) == wanted["starts"]


def test_routing_of_a_stream_is_that_of_its_chunks(client: openai.OpenAI, server: Running):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 50, "seed": 4}
    extra = {"routing": True, "ignore_eos": True}
    data, boundaries = list(PROMPT.encode()), []
    for chunk in client.completions.create(**options, stream=True, extra_body=extra):
        routing = chunk.choices[0].model_extra["routing"]
        data += routing["bytes"]
        boundaries += routing["boundaries"]
    assert len(boundaries) == len(data) - 1, "the last byte is not read by the model"
    found = client.post("/chunks", body={"input": data}, cast_to=object)["data"][0]["stages"]
    outer, inner = found
    assert [b["probs"][0] for b in boundaries] == pytest.approx(outer["boundary_prob"][:-1], abs=1e-4)
    starts = [i for i, b in enumerate(boundaries) if b["depth"] > 0 or i == 0]
    assert starts == [start for start in outer["starts"] if start < len(boundaries)]
    starts = [i for i, b in enumerate(boundaries) if b["depth"] > 1 or i == 0]
    assert starts == [start for start in inner["starts"] if start < len(boundaries)]


def test_embeddings_through_the_client(client: openai.OpenAI):
    answer = client.embeddings.create(model=MODEL, input=["the cat", "the cat", "苹果"])
    first, second, third = (item.embedding for item in answer.data)
    assert len(first) == 32
    assert math.fsum(x * x for x in first) == pytest.approx(1, abs=1e-5)
    assert first == second != third
    assert answer.usage.prompt_tokens == 7 + 7 + 6
    as_floats = client.embeddings.create(model=MODEL, input="the cat", encoding_format="float")
    assert as_floats.data[0].embedding == pytest.approx(first, abs=1e-6)
    last = client.embeddings.create(model=MODEL, input="the cat", extra_body={"pooling": "last"})
    assert last.data[0].embedding != first


def _byte(token: str) -> bytes:
    return bytes([int(token.removeprefix("bytes:\\x"), 16)]) if token.startswith("bytes:") else token.encode()
