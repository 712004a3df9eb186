import math

import pytest
import torch

from hnet_lm.errors import UserError
from hnet_lm.generation import EngineLimits, RequestError, generate, score, stream
from hnet_lm.model import HNetLM


def test_generate_returns_one_string_a_prompt_in_order(model: HNetLM):
    prompts = ["Once upon", "", "\0", "😀", b"raw"]
    texts = generate(model, prompts, max_new_bytes=10, temperature=0.8, top_p=0.95, seed=0)
    raw = generate(model, prompts, max_new_bytes=10, temperature=0.8, top_p=0.95, seed=0, return_bytes=True)
    assert len(texts) == 5
    assert [data.decode("utf-8", "replace") for data in raw] == texts
    assert generate(model, [], max_new_bytes=3) == []


def test_equal_prompts_with_one_seed_decode_equally(model: HNetLM):
    first, second, third = generate(model, ["same", "same", "same"], max_new_bytes=20, seed=4, return_bytes=True)
    assert first == second == third
    assert first != generate(model, ["same"], max_new_bytes=20, seed=5, return_bytes=True)[0]


def test_stream_yields_what_generate_returns(model: HNetLM):
    options = {"max_new_bytes": 30, "seed": 2, "stop": "q", "valid_utf8": True}
    pieces = list(stream(model, "Once", **options))
    assert "".join(pieces) == generate(model, ["Once"], **options)[0]
    assert len(pieces) > 3
    assert all(pieces)


def test_score_is_the_log_probability_of_the_continuation(model: HNetLM):
    prompts, continuations = ["The cat", "", "中", "x"], [" sat", "\0😀", "文", ""]
    scores = score(model, prompts, continuations, limits=EngineLimits(prefill_bytes=4))
    for prompt, continuation, found in zip(prompts, continuations, scores, strict=True):
        ids = torch.tensor([model.config.bos_id, *prompt.encode(), *continuation.encode()])
        logprobs = model(ids).logits.double().log_softmax(-1)[:-1].gather(-1, ids[1:, None])[:, 0]
        expected = logprobs[len(prompt.encode()) :].tolist()
        assert list(found.byte_logprobs) == pytest.approx(expected, abs=1e-4)
        assert found.logprob == pytest.approx(sum(expected), abs=1e-3)
    assert scores[3].logprob == 0


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: generate(m, "one string"), "prompts must be a list of strings"),  # pyright: ignore  wrong on purpose
        (lambda m: generate(m, [3]), r"prompts\[0\] must be a string or bytes, got int"),  # pyright: ignore  wrong on purpose
        (lambda m: generate(m, ["a"], temperatur=1), "did you mean 'temperature'"),
        (lambda m: generate(m, ["a"], temperature=math.nan), "temperature: must be a number, 0 or more, got nan"),
        (lambda m: generate(m, ["a"], top_p=-1), "top_p: must be a number from 0 to 1, got -1"),
        (lambda m: generate(m, ["\ud800"]), "lone surrogate"),
        (lambda m: stream(m, "a", top_k=-1), "top_k"),
        (lambda m: score(m, ["a"], ["b", "c"]), "one continuation a prompt, got 1 prompts and 2"),
        (lambda m: generate(m, ["a"], limits=EngineLimits(pool_bytes=1000)), "a pool of 1,000 bytes is too small"),
    ],
)
def test_a_mistake_is_one_clear_line(model: HNetLM, call, message: str):
    with pytest.raises(UserError, match=message) as caught:
        call(model)
    assert "\n" not in str(caught.value)
    assert issubclass(RequestError, UserError)


def test_broken_weights_are_not_passed_over(model: HNetLM):
    with torch.no_grad():
        kept = model.embedding.weight[ord("~")].clone()
        model.embedding.weight[ord("~")] = torch.nan
    try:
        with pytest.raises(FloatingPointError, match="not finite"):
            generate(model, ["~"])
    finally:
        model.embedding.weight[ord("~")] = kept
