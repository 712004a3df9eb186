"""A model of two stages as transformers has it, its tokenizer, and no hub."""

import pytest
from hf_models import LAYOUTS, tiny

from hnet_lm.hf import HNetLMForCausalLM, HNetLMTokenizer
from hnet_lm.model import HNetLM


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


@pytest.fixture
def plain() -> HNetLM:
    return tiny(LAYOUTS["two stages"])


@pytest.fixture
def model(plain: HNetLM) -> HNetLMForCausalLM:
    return HNetLMForCausalLM.of_model(plain)


@pytest.fixture
def tokenizer() -> HNetLMTokenizer:
    return HNetLMTokenizer()
