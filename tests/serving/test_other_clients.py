"""Clients of other libraries against our server: LangChain's, litellm's, and the LM Evaluation Harness's."""

from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_openai import OpenAI as LangChain
from lm_eval.api.instance import Instance
from lm_eval.models.openai_completions import LocalCompletionsAPI
from pydantic import SecretStr
from running_server import MODEL, Running

import hnet_lm
from hnet_lm.evaluation.harness import HarnessLM
from hnet_lm.hf import HNetLMTokenizer
from hnet_lm.model import HNetLM

PROMPT = "Once upon a time"
KEY = "none is needed"


@pytest.fixture(scope="module")
def expected(model: HNetLM) -> str:
    return hnet_lm.generate(model, [PROMPT], max_new_bytes=12, temperature=0.0)[0]


def test_langchain_asks_and_streams(server: Running, expected: str) -> None:
    options: dict[str, Any] = {"base_url": f"{server.url}/v1", "api_key": SecretStr(KEY), "model": MODEL}
    llm = LangChain(**options, max_tokens=12, temperature=0, max_retries=0)
    assert llm.invoke(PROMPT) == expected
    assert "".join(llm.stream(PROMPT)) == expected
    assert llm.batch([PROMPT, PROMPT]) == [expected] * 2


def test_litellm_asks_and_streams(server: Running, expected: str) -> None:
    options: dict[str, Any] = {
        **{"model": f"text-completion-openai/{MODEL}", "prompt": PROMPT, "max_tokens": 12, "temperature": 0},
        **{"api_base": f"{server.url}/v1", "api_key": KEY, "num_retries": 0},
    }
    whole: Any = litellm.text_completion(**options)
    assert whole.choices[0].text == expected
    pieces: Any = litellm.text_completion(**options, stream=True)
    assert "".join(piece.choices[0].text or "" for piece in pieces) == expected


def test_the_harness_scores_over_http_what_it_scores_here(server: Running, model: HNetLM, tmp_path: Path) -> None:
    HNetLMTokenizer().save_pretrained(tmp_path)
    there = LocalCompletionsAPI(
        base_url=f"{server.url}/v1/completions",
        tokenizer_backend="huggingface",
        tokenizer=str(tmp_path),
        model=MODEL,
        max_retries=1,
    )
    pairs = [("The sky is", " blue."), ("The sky is", " a fish."), ("天地", "玄黃")]
    requests: list[Instance] = [Instance("loglikelihood", {}, pair, number) for number, pair in enumerate(pairs)]
    scores = there.loglikelihood(requests)
    ours = HarnessLM.of_model(model).loglikelihood(requests)
    assert [score for score, _ in scores] == pytest.approx([score for score, _ in ours], abs=1e-3)
