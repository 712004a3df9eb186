"""A model of tokens is served as one of bytes is: text in, text out."""

from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from hnet_lm.generation import generate
from hnet_lm.serving.app import create_app
from token_models import save_token_model


def test_completions_of_a_model_of_tokens(tmp_path: Path):
    model, pairs = save_token_model(tmp_path / "model")
    body = {"prompt": "the cat", "max_tokens": 20, "temperature": 0, "ignore_eos": True}
    (expected,) = generate(model, ["the cat"], max_new_bytes=20, temperature=0.0, ignore_eos=True, tokenizer=pairs)
    app = create_app({"tokens": model}, tokenizers={"tokens": pairs})
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/completions", json=body).json()
        assert answer["choices"][0]["text"] == expected
        assert answer["usage"]["completion_tokens"] == 20  # bytes, as everywhere here
        streamed = client.post("/v1/completions", json={**body, "stream": True}).text
        assert streamed.count('"text":') > 3
        echoed = client.post("/v1/completions", json={**body, "echo": True, "logprobs": 1}).json()
        logprobs, text = echoed["choices"][0]["logprobs"], echoed["choices"][0]["text"]
        assert text == "the cat" + expected
        spelled = [pairs.token_bytes[id].decode() for id in pairs.encode(b"the cat").ids]
        assert logprobs["tokens"][: len(spelled)] == spelled
        assert logprobs["text_offset"][: len(spelled)] == [sum(map(len, spelled[:i])) for i in range(len(spelled))]
        for path in ("/v1/chunks", "/v1/embeddings"):
            refused = client.post(path, json={"input": "text"})
            assert refused.status_code == 400
            assert "reads tokens of a tokenizer" in refused.json()["error"]["message"]


def test_a_model_of_tokens_needs_its_tokenizer(tmp_path: Path):
    model, _ = save_token_model(tmp_path / "model")
    with pytest.raises(Exception, match="reads tokens of a tokenizer"):
        create_app({"tokens": model})
