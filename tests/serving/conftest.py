"""A tiny model, saved and loaded, and a server of it for all tests that want nothing special."""

from collections.abc import Iterator
from pathlib import Path

import openai
import pytest
from running_server import MODEL, Running, running, tiny_model

import hnet_lm
from chromium import browser as browser
from hnet_lm.model import HNetLM
from hnet_lm.serving.limits import RequestLimits


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models") / MODEL
    hnet_lm.save(tiny_model(["m1", ["m1", ["T1"], "m1"], "m1"]), directory)
    return directory


@pytest.fixture(scope="session")
def model(saved: Path) -> HNetLM:
    model = hnet_lm.load(saved)
    # The first use compiles loops, which may take longer than a test waits for a page.
    hnet_lm.generate(model, ["Once"], max_new_bytes=8)
    hnet_lm.chunks(model, "Once")
    return model


@pytest.fixture(scope="session")
def server(model: HNetLM) -> Iterator[Running]:
    """Roomy limits, but for the size of a body and of a prompt."""
    limits = RequestLimits(max_body_bytes=100_000, max_prompt_bytes=2000, max_new_bytes=4000)
    with running({MODEL: model}, limits) as server:
        yield server


@pytest.fixture(scope="session")
def client(server: Running) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none is needed", max_retries=0)
