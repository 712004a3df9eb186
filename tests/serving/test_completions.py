"""The official OpenAI client against a running server."""

import math

import openai
import pytest
from running_server import MODEL, Running

import hnet_lm
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


def test_echo_streams_the_prompt_first(client: openai.OpenAI):
    options = {"model": MODEL, "prompt": PROMPT, "max_tokens": 20, "seed": 1, "echo": True}
    whole = client.completions.create(**options).choices[0].text
    assert whole.startswith(PROMPT)
    assert "".join(chunk.choices[0].text for chunk in client.completions.create(**options, stream=True)) == whole


def test_a_prompt_may_be_given_as_bytes(client: openai.OpenAI, model: HNetLM):
    answer = client.completions.create(model=MODEL, prompt=[0x66, 0x80, 0x00], max_tokens=20, temperature=0)
    assert answer.choices[0].text == hnet_lm.generate(model, [b"f\x80\x00"], max_new_bytes=20, temperature=0)[0]


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
