"""What one client may ask for in a minute, by key and by address; and the log of requests."""

import logging
import socket

import httpx
import pytest
from running_server import MODEL, running

from hnet_lm.errors import UserError
from hnet_lm.model import HNetLM
from hnet_lm.serving import observe
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.limits import RateLimits
from hnet_lm.serving.rates import Bucket, Meter, address_of

BODY = {"prompt": "abcd", "max_tokens": 6, "ignore_eos": True}


def ask(url: str, key: str | None = None) -> httpx.Response:
    headers = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/v1/completions", json=BODY, headers=headers)


def test_a_bucket_holds_a_minutes_worth_and_fills_evenly():
    bucket = Bucket(per_minute=120, now=0.0)
    assert bucket.seconds_until_one(now=1000.0) == 0, "no more than a minute's worth is kept"
    bucket.take(120, now=1000.0)
    assert bucket.seconds_until_one(now=1000.0) == pytest.approx(0.5)
    assert bucket.seconds_until_one(now=1000.4) == pytest.approx(0.1)
    assert bucket.seconds_until_one(now=1000.5) == 0
    bucket.take(60, now=1000.5)
    assert bucket.seconds_until_one(now=1000.5) == pytest.approx(30)


def test_a_meter_waits_for_requests_and_for_bytes():
    meter = Meter(requests_per_minute=2, bytes_per_minute=600, now=0.0)
    assert meter.admit(0.0) == 0
    meter.count_bytes(700, 0.0)
    assert meter.admit(0.0) == pytest.approx(101 / 10)
    assert meter.admit(10.2) == 0
    assert meter.admit(10.2) == pytest.approx(30 - 10.2)
    free = Meter(None, None, now=0.0)
    free.count_bytes(10**12, 0.0)
    assert free.admit(0.0) == 0


def test_an_address_that_asks_too_often_is_429(model: HNetLM):
    with running({MODEL: model}, rates=RateLimits(requests_per_address=2)) as server:
        assert ask(server.url).status_code == 200
        assert httpx.get(f"{server.url}/v1/nothing").status_code == 404
        refused = ask(server.url)
        assert refused.status_code == 429
        assert refused.json()["error"]["code"] == "rate_limit_exceeded"
        assert 25 <= int(refused.headers["retry-after"]) <= 30
        assert httpx.get(f"{server.url}/health").status_code == 200, "whether the server is well may be asked always"


def test_bytes_are_counted_as_usage_counts_them(model: HNetLM):
    """One request may overdraw, and those after it wait until that is paid."""
    with running({MODEL: model}, rates=RateLimits(bytes_per_address=3)) as server:
        assert ask(server.url).json()["usage"]["total_tokens"] == 10
        assert 130 < int(ask(server.url).headers["retry-after"]) <= 20 * (10 - 3 + 1)
    with running({MODEL: model}, rates=RateLimits(bytes_per_address=3)) as server:
        texts = {"input": ["x" * 40, "y" * 80]}
        assert httpx.post(f"{server.url}/v1/chunks", json=texts).status_code == 200
        wait = int(httpx.get(f"{server.url}/v1/models").headers["retry-after"])
        assert 2330 < wait <= 20 * (120 - 3 + 1)


def test_each_key_has_its_own_minute_however_it_is_encoded(model: HNetLM):
    keys = ApiKeys(["first", "sécond"])
    with running({MODEL: model}, keys=keys, rates=RateLimits(requests_per_key=2)) as server:
        assert [ask(server.url, "first").status_code for _ in range(3)] == [200, 200, 429]
        url = f"{server.url}/v1/models"
        latin = {"authorization": "Bearer sécond".encode("latin-1")}
        utf8 = {"authorization": "Bearer sécond".encode()}
        assert [httpx.get(url, headers=headers).status_code for headers in (latin, utf8, utf8)] == [200, 200, 429]


def test_wrong_keys_count_for_their_address(model: HNetLM):
    with running({MODEL: model}, keys=ApiKeys(["right"]), rates=RateLimits(requests_per_address=3)) as server:
        assert [ask(server.url, f"wrong-{i}").status_code for i in range(4)] == [401, 401, 401, 429]
        assert ask(server.url, "right").status_code == 429


def test_an_address_is_a_client_and_of_ipv6_a_network():
    assert address_of({"client": ("10.0.0.1", 5)}) == "10.0.0.1"
    assert address_of({"client": ("2001:db8::1", 5)}) == address_of({"client": ("2001:db8::2:3", 5)})
    assert address_of({"client": ("2001:db8::1", 5)}) != address_of({"client": ("2001:db8:0:1::1", 5)})
    assert address_of({"client": ("unknown", 5)}) == "unknown"
    assert address_of({"client": None}) is None


def test_rates_are_checked():
    for value in (0, -1, 1.5, True):
        with pytest.raises(UserError, match="bytes_per_key"):
            RateLimits(bytes_per_key=value)


def test_the_log_of_requests_has_a_line_for_each(
    model: HNetLM, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(observe.logger, "level", logging.INFO)
    with running({MODEL: model}, keys=ApiKeys(["se-cret"])) as server:
        ask(server.url, "se-cret")
        httpx.get(f"{server.url}/v1/a%0Ab?key=se-cret")
        with socket.create_connection(server.address) as connection:
            connection.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer se-cret\r\n")
            connection.sendall(b"Content-Length: 10\r\n\r\n")
            server.until(lambda: server.figure("requests_total") >= 0)
    lines = [record.getMessage() for record in caplog.records if record.name == observe.__name__]
    lines = [line for line in lines if "/metrics" not in line]
    assert lines[0].startswith("127.0.0.1 POST /v1/completions 200 ")
    assert lines[1].startswith("127.0.0.1 GET /v1/a%0Ab 401 ")
    assert not any("se-cret" in line or "\n" in line for line in lines)
    assert lines[2].startswith("127.0.0.1 POST /v1/completions none 0 bytes ")
