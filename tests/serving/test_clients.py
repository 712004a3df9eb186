"""Clients as they are: null fields, fields that ask for nothing, other paths and methods, pages of other origins."""

import json

import httpx
import openai
import pytest
from running_server import MODEL, Running, running

from hnet_lm.cli.serve import checked_origin
from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.serving.protocol import ChunksBody, CompletionBody, EmbeddingsBody

ORIGIN = "http://localhost:3000"


def post(server: Running, body: object, path: str = "/v1/completions", **headers: str) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.post(server.url + path, content=content, headers={"content-type": "application/json", **headers})


def error_of(response: httpx.Response, status: int = 400) -> dict:
    assert response.status_code == status, response.text
    return response.json()["error"]


def nulls(kind: type) -> dict[str, None]:
    return dict.fromkeys(name for name, field in kind.model_fields.items() if not field.is_required())


def test_a_null_field_is_as_if_it_were_not_there(server: Running):
    same = {"max_tokens": 5, "seed": 1}
    bare = post(server, same).json()["choices"]
    assert post(server, {**nulls(CompletionBody), **same}).json()["choices"] == bare
    options = {"include_usage": None, "include_obfuscation": None}
    assert post(server, {**same, "stream": False, "stream_options": options}).json()["choices"] == bare
    for kind, path in ((ChunksBody, "/v1/chunks"), (EmbeddingsBody, "/v1/embeddings")):
        assert post(server, {**nulls(kind), "input": "a"}, path).json() == post(server, {"input": "a"}, path).json()
        assert "input: is missing" in error_of(post(server, {"input": None}, path))["message"]


@pytest.mark.parametrize(
    "fields",
    [
        {"logit_bias": {}},
        {"suffix": ""},
        {"stop": []},
        {"best_of": 1},
        {"best_of": 2, "n": 2},
        {"n": 1.0, "max_tokens": 5.0, "seed": 1.0},
        {"frequency_penalty": 0, "presence_penalty": 0.0},
        {"stream_options": {}, "user": ""},
        {"prompt": [97.0]},
    ],
)
def test_what_asks_for_nothing_is_accepted(server: Running, fields: dict):
    same = {"prompt": "a", "max_tokens": 5, "seed": 1}
    choices = post(server, {**same, **fields}).json()["choices"]
    assert choices[0] == post(server, same).json()["choices"][0]


def test_the_usage_and_obfuscation_options_of_a_stream(client: openai.OpenAI):
    options = {"include_usage": True, "include_obfuscation": False}
    chunks = list(client.completions.create(model=MODEL, prompt="a", max_tokens=2, stream=True, stream_options=options))
    assert chunks[-1].usage is not None


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({"suffix": "end"}, "suffix", "is not supported by this server"),
        ({"logit_bias": {"50256": -100}}, "logit_bias", "is not supported by this server"),
        ({"max_tokens": -1}, "max_tokens", "max_tokens"),
        ({"max_tokens": 1.5}, "max_tokens", "integer"),
        ({"top_k": -1}, "top_k", "top_k: must be a whole number, 0 or more"),
        ({"seed": 2**64}, "seed", "seed: must be a whole number from"),
        ({"stop": [1]}, "stop", "strings"),
        ({"stop": ["a", "\ud800"]}, "stop", "surrogate"),
        ({"stream_options": {"usage": True}}, "usage", "stream_options.usage: there is no such field"),
        ({"max_token": 3}, "max_token", "did you mean max_tokens?"),
        ({"\ud800": 1}, "\\ud800", "\\ud800: there is no such field"),
        ({"a\r\u2028b": 1}, "a\\r\\u2028b", "a\\r\\u2028b: there is no such field"),
        ({"x" * 5000: 1}, "x" * 100 + "…", "there is no such field"),
        ({"model": "y" * 5000}, "model", "yyy…' is not served"),
        ({"model": "\ud800"}, "model", "ud800' is not served"),
        ({"dimensions": 3}, "dimensions", "dimensions: there is no such field"),
    ],
)
def test_an_error_names_the_field_that_the_client_sent(server: Running, fields: dict, param: str, words: str):
    error = error_of(post(server, {"prompt": "a", **fields}), 404 if words.endswith("served") else 400)
    assert error["param"] == param
    assert words in error["message"]
    assert len(error["message"]) < 500


def test_a_seed_goes_on_from_the_last_to_the_first(server: Running):
    last = post(server, {"prompt": "a", "max_tokens": 8, "n": 2, "seed": 2**64 - 1}).json()["choices"]
    first = post(server, {"prompt": "a", "max_tokens": 8, "seed": 0}).json()["choices"]
    assert last[1]["text"] == first[0]["text"]


def test_embeddings_have_as_many_dimensions_as_the_model_is_wide(server: Running):
    body = {"input": "a", "dimensions": 32, "encoding_format": "float"}
    assert len(post(server, body, "/v1/embeddings").json()["data"][0]["embedding"]) == 32
    assert error_of(post(server, {**body, "dimensions": 8}, "/v1/embeddings"))["param"] == "dimensions"


@pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"9" * 10_000, b'{"prompt": "\xff"}'])
def test_no_json_is_one_line(server: Running, content: bytes):
    error = error_of(post(server, content))
    assert error["code"] == "invalid_json"
    assert "\n" not in error["message"]


def test_json_is_sent_as_json(server: Running):
    """Pages of other origins may send text and forms without being asked; such a request does nothing."""
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        error = error_of(post(server, {"prompt": "a"}, **{"content-type": kind}))
        assert "Content-Type: application/json" in error["message"]
    assert post(server, {"max_tokens": 1}, **{"content-type": "Application/JSON; charset=utf-8"}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/", "/v1/models", f"/v1/models/{MODEL}", "/metrics", "/static/app.js"])
def test_head_is_answered_where_get_is(server: Running, path: str):
    head, get = httpx.head(server.url + path), httpx.get(server.url + path)
    assert head.status_code == get.status_code == 200
    assert head.content == b""
    assert head.headers["content-type"] == get.headers["content-type"]
    if path != "/metrics":
        assert head.headers["content-length"] == get.headers["content-length"]


def test_head_is_refused_where_get_is(server: Running):
    assert httpx.head(f"{server.url}/v1/completions").status_code == 405
    assert httpx.head(f"{server.url}/v1/nothing").status_code == 404


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses"])
def test_who_wants_to_chat_is_told_of_completions(server: Running, path: str):
    error = error_of(post(server, {"messages": [{"role": "user", "content": "hi"}]}, path), 404)
    assert "base models" in error["message"]
    assert "/v1/completions" in error["message"]


def test_other_paths_and_methods_are_told_where_to_go(server: Running):
    error = error_of(post(server, {"prompt": "a"}, "/completions"), 404)
    assert "/completions" in error["message"]
    assert "base URL ends in /v1" in error["message"]
    answer = httpx.get(f"{server.url}/v1/completions")
    assert error_of(answer, 405)["message"] == "/v1/completions takes POST, not GET"
    assert answer.headers["allow"] == "POST"


def test_pages_of_an_allowed_origin_may_use_the_server(model: HNetLM):
    preflight = {
        "origin": ORIGIN,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-os",
    }
    with running({MODEL: model}, allow_origins=(ORIGIN,)) as server:
        answer = httpx.options(f"{server.url}/v1/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "x-stainless-os" in answer.headers["access-control-allow-headers"]
        for body, status in (({"max_tokens": 1}, 200), ({"n": -1}, 400)):
            answer = post(server, body, origin=ORIGIN)
            assert answer.status_code == status
            assert answer.headers["access-control-allow-origin"] == ORIGIN
        other = {**preflight, "origin": "http://evil.example"}
        assert "access-control-allow-origin" not in httpx.options(f"{server.url}/v1/completions", headers=other).headers
        answer = post(server, {"max_tokens": 1}, origin="http://evil.example")
        assert "access-control-allow-origin" not in answer.headers


def test_no_origin_is_allowed_by_default(server: Running):
    answer = httpx.options(
        f"{server.url}/v1/completions", headers={"origin": ORIGIN, "access-control-request-method": "POST"}
    )
    assert answer.status_code == 405
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize("path", ["/", "/static/app.js"])
def test_the_page_runs_its_own_files_alone(server: Running, path: str):
    headers = httpx.get(server.url + path).headers
    policy = headers["content-security-policy"].split("; ")
    assert "default-src 'self'" in policy
    assert not any(part.startswith("script-src") for part in policy)
    assert headers["x-content-type-options"] == "nosniff"


def test_origins_are_checked():
    for good in (ORIGIN, "https://a.example", "*", "null", "chrome-extension://abc"):
        assert checked_origin(good) == good
    for bad in ("localhost:3000", "http://a.example/", "http://a.example/page", "http://", ""):
        with pytest.raises(UserError, match="no path"):
            checked_origin(bad)


def test_no_event_or_answer_is_torn_by_readers_of_lines(server: Running):
    """Some readers end a line at U+0085, U+2028 and U+2029, as Python's own `splitlines` does."""
    text = "one\x85two\u2028three\u2029four\x0bfive"
    body = {"prompt": text, "max_tokens": 0, "echo": True}
    whole = post(server, body)
    assert len(whole.text.splitlines()) == 1
    assert whole.json()["choices"][0]["text"] == text
    events = [line for line in post(server, {**body, "stream": True}).text.splitlines() if line]
    assert all(line.startswith("data: ") for line in events)
    assert "".join(json.loads(line[6:])["choices"][0]["text"] for line in events[:-1]) == text
