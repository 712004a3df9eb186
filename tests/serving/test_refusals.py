"""What cannot be served is refused with the right status and an error that OpenAI clients understand."""

import json
from pathlib import Path

import httpx
import openai
import pytest
from running_server import MODEL, Running, running

from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.limits import RequestLimits


def post(server: Running, body: dict | str, path: str = "/v1/completions", **headers: str) -> httpx.Response:
    content = body if isinstance(body, str) else json.dumps(body)
    return httpx.post(server.url + path, content=content, headers={"content-type": "application/json", **headers})


def check_error(response: httpx.Response, status: int, *words: str) -> dict:
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    for word in words:
        assert word in error["message"]
    return error


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"temperature": float("nan")}, ["temperature", "0 or more", "nan"]),
        ({"temperature": float("inf")}, ["temperature", "inf"]),
        ({"temperature": -1}, ["temperature", "-1"]),
        ({"temperature": "hot"}, ["temperature", "number"]),
        ({"top_p": -0.1}, ["top_p", "from 0 to 1", "-0.1"]),
        ({"top_p": True}, ["top_p"]),
        ({"min_p": 2}, ["min_p", "from 0 to 1"]),
        ({"repetition_penalty": 0}, ["repetition_penalty"]),
        ({"n": 0}, ["n: ", "greater than or equal to 1"]),
        ({"n": 1000}, ["n: ", "1000", "64"]),
        ({"best_of": 5}, ["best_of"]),
        ({"max_tokens": -1}, ["max_tokens", "0"]),
        ({"max_tokens": 10**6}, ["max_tokens", "1,000,000", "4,000"]),
        ({"max_tokens": 10**30}, ["max_tokens"]),
        ({"stop": ""}, ["stop", "empty"]),
        ({"stop": ["x"] * 17}, ["stop"]),
        ({"logprobs": 21}, ["logprobs", "20"]),
        ({"seed": 2**70}, ["seed"]),
        ({"presence_penalty": 0.5}, ["presence_penalty"]),
        ({"temprature": 1}, ["temprature", "no such field"]),
        ({"prompt": "x" * 2001}, ["prompt", "2,001 bytes", "2,000"]),
        ({"prompt": []}, ["prompt", "string"]),
        ({"prompt": [256]}, ["prompt", "0 to 255"]),
        ({"prompt": [254]}, ["prompt", "0xfe"]),
        ({"prompt": "\ud800"}, ["surrogate"]),
        ({"prompt": {"text": "a"}}, ["prompt"]),
        ({"prompt": ["x"] * 65}, ["65", "64"]),
    ],
)
def test_a_parameter_that_does_not_fit_is_400(server: Running, fields: dict, words: list[str]):
    error = check_error(post(server, {"model": MODEL, "prompt": "a", **fields}), 400, *words)
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("content", ["{", "", "[]", "null", '"text"', "\x00", '{"prompt": "a",}', "[" * 20000])
def test_bad_json_is_400(server: Running, content: str):
    check_error(post(server, content), 400)


def test_the_client_raises_its_own_errors(client: openai.OpenAI):
    with pytest.raises(openai.BadRequestError, match="top_p: must be a number from 0 to 1") as caught:
        client.completions.create(model=MODEL, prompt="a", top_p=-1)
    assert caught.value.code == "invalid_value"
    with pytest.raises(openai.BadRequestError, match=r"2,001 bytes") as caught:
        client.completions.create(model=MODEL, prompt="a" * 2001)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError) as caught:
        client.completions.create(model="other", prompt="a")
    assert caught.value.code == "model_not_found"
    with pytest.raises(openai.APIStatusError) as caught:
        client.completions.create(model=MODEL, prompt="a" * 200_000)
    assert caught.value.status_code == 413


def test_a_body_that_is_too_large_is_413_whether_it_says_so_or_not(server: Running):
    check_error(post(server, {"prompt": "a" * 200_000}), 413, "100,000")
    parts = (b" " * 50_000 for _ in range(5))
    answer = httpx.post(f"{server.url}/v1/completions", content=parts, headers={"content-type": "application/json"})
    check_error(answer, 413, "100,000")


def test_an_absurd_length_is_refused_before_anything_is_sent(server: Running):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n"
    with server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 413 ")


def test_paths_and_methods_that_do_not_exist(server: Running):
    check_error(httpx.get(f"{server.url}/v1/nothing"), 404)
    check_error(httpx.get(f"{server.url}/v1/completions"), 405)
    check_error(httpx.get(f"{server.url}/static/../app.py"), 404)


def test_chunks_and_embeddings_have_the_limits_too(server: Running):
    for path in ("/v1/chunks", "/v1/embeddings"):
        check_error(post(server, {"input": "a" * 2001}, path), 400, "input", "2,001")
        check_error(post(server, {"input": ["a"] * 65}, path), 400, "input", "65")
        check_error(post(server, {}, path), 400, "input")
    check_error(post(server, {"input": "a", "pooling": "max"}, "/v1/embeddings"), 400, "pooling")


def test_a_body_that_comes_too_slowly_is_408(model: HNetLM):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nfirst"
    with running({MODEL: model}, RequestLimits(max_body_seconds=0.2)) as server, server.connect() as connection:
        connection.sendall(head)
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_keys(model: HNetLM, tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text("# for tests\nfirst-key\n\n  sécond  \n", encoding="utf-8")
    with running({MODEL: model}, keys=ApiKeys.read(file)) as server:
        for wrong in (None, "Bearer wrong", "Bearer", "Basic first-key", "Bearer # for tests", "Bearer first-key2"):
            headers = {} if wrong is None else {"authorization": wrong}
            error = check_error(post(server, {"prompt": "a"}, **headers), 401, "API key")
            assert error["code"] == "invalid_api_key"
        assert httpx.get(f"{server.url}/metrics").status_code == 401
        assert httpx.get(f"{server.url}/health").status_code == 200
        assert httpx.get(server.url).status_code == 200
        for encoding in ("utf-8", "latin-1"):  # as curl and as older clients send it
            headers = {"authorization": "Bearer sécond".encode(encoding)}
            assert httpx.get(f"{server.url}/v1/models", headers=headers).status_code == 200
        assert httpx.get(f"{server.url}/openapi.json").status_code == 401
        client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="first-key", max_retries=0)
        assert client.completions.create(model=MODEL, prompt="a", max_tokens=2).choices
        with pytest.raises(openai.AuthenticationError):
            client.with_options(api_key="wrong").models.list()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "keys: cannot be read: No such file or directory"),
        (b"# nothing\n\n", "keys: holds no API key; write one per line"),
        (b"first\n\xff\n", "keys, line 2: not text in UTF-8"),
        ("schlüssel".encode("utf-16"), "keys: is text in UTF-16"),
    ],
)
def test_a_file_without_keys_is_one_clear_line(tmp_path: Path, content: bytes | None, words: str):
    file = tmp_path / "keys"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(UserError) as caught:
        ApiKeys.read(file)
    assert words in str(caught.value)
    assert "Errno" not in str(caught.value)


def test_a_key_is_in_the_keys_as_a_string_and_as_the_bytes_of_a_header(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_bytes("first\n schlüssel 2 \n钥匙\n".encode())
    keys = ApiKeys.read(file)
    for key in ("first", "schlüssel 2", "钥匙"):
        assert key in keys
        assert key.encode() in keys
    assert "schlüssel 2".encode("latin-1") in keys
    for wrong in ("", "firs", "first ", "schlüssel", "\ud800", b"\xff", None, 1):
        assert wrong not in keys


def test_a_file_of_keys_may_begin_with_a_byte_order_mark(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_bytes(b"\xef\xbb\xbffirst\r\nsecond\r\n")
    assert ApiKeys.read(file).find(b"first") != ApiKeys.read(file).find(b"second")
    assert None not in (ApiKeys.read(file).find(b"first"), ApiKeys.read(file).find(b"second"))


def test_limits_are_checked():
    for name, value in (("max_body_bytes", 0), ("max_request_seconds", 0.0), ("max_waiting", -1), ("max_texts", 1.5)):
        with pytest.raises(UserError, match=name):
            RequestLimits(**{name: value})
