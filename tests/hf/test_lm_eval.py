"""The LM Evaluation Harness's own `hf` model measures what ours measures."""

from typing import Any

import pytest
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

from hnet_lm.evaluation.harness import HarnessLM
from hnet_lm.hf import HNetLMForCausalLM, HNetLMTokenizer

PAIRS = [("The sky is", " blue."), ("The sky is", " a fish 🐟."), ("天地", "玄黃"), ("A", "b"), ("", "no context")]
TEXTS = ["A first document, with an emoji 🤖.", "宇宙洪荒"]


def requests(kind: Any, arguments: list[tuple[Any, ...]]) -> list[Instance]:
    return [Instance(kind, {}, given, number) for number, given in enumerate(arguments)]


@pytest.fixture
def both(model: HNetLMForCausalLM, tokenizer: HNetLMTokenizer) -> tuple[Any, HarnessLM]:
    theirs = HFLM(pretrained=model, tokenizer=tokenizer, backend="causal", add_bos_token=True, batch_size=3)
    return theirs, HarnessLM.of_model(model.model)


def test_loglikelihoods_are_equal(both: tuple[Any, HarnessLM]) -> None:
    theirs, ours = (lm.loglikelihood(requests("loglikelihood", PAIRS)) for lm in both)
    assert [score for score, _ in theirs] == pytest.approx([score for score, _ in ours], abs=1e-3)
    assert [greedy for _, greedy in theirs] == [greedy for _, greedy in ours]


def test_rolling_loglikelihoods_are_equal(both: tuple[Any, HarnessLM]) -> None:
    """There the harness puts BOS in front itself; with `add_bos_token=True` it would stand there twice."""
    both[0].add_bos_token = False
    texts = [(text,) for text in TEXTS]
    theirs, ours = (lm.loglikelihood_rolling(requests("loglikelihood_rolling", texts)) for lm in both)
    assert list(theirs) == pytest.approx(ours, abs=1e-3)


def test_generation_is_equal(both: tuple[Any, HarnessLM]) -> None:
    """The harness counts bytes as tokens for its own model, and about five bytes as one for ours."""
    options = {"until": ["zz"], "do_sample": False}
    prompts = ["Once upon", "def f("]
    theirs = both[0].generate_until(requests("generate_until", [(p, options | {"max_gen_toks": 10}) for p in prompts]))
    ours = both[1].generate_until(requests("generate_until", [(p, options | {"max_gen_toks": 2}) for p in prompts]))
    assert theirs == ours
