"""An answer of many megabytes: right to the byte, bounded, and no wait for anybody else."""

import json
import time

import httpx
import pytest
from running_server import MODEL, Running, running

import hnet_lm
from hnet_lm.model import HNetLM
from hnet_lm.serving.limits import RequestLimits
from hnet_lm.serving.responses import to_json

TEXT = ("the 猫 sat on the mat, 🐈 and all. " * 60)[:1500]


def test_no_turn_of_the_event_loop_takes_long_while_a_large_answer_is_made(model: HNetLM):
    """Processor time of the loop's own thread, which does not depend on how busy the machine is."""
    with running({MODEL: model}, RequestLimits()) as server:
        turns: list[float] = []

        def tick(before: float) -> None:
            now = time.thread_time()
            turns.append(now - before)
            server.loop.call_later(0.001, tick, now)

        server.loop.call_soon_threadsafe(lambda: tick(time.thread_time()))
        body = {"prompt": "x" * 8000, "max_tokens": 0, "echo": True, "logprobs": 20}
        answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=120)
        longest = max(turns)
    assert len(answer.content) > 3_500_000
    assert len(answer.json()["choices"][0]["logprobs"]["token_logprobs"]) == 8000
    assert longest < 0.2


def test_a_large_answer_in_one_piece_says_what_its_stream_says(server: Running, model: HNetLM):
    body = {
        "prompt": [TEXT, "short"],
        "max_tokens": 30,
        "n": 2,
        "echo": True,
        "logprobs": 2,
        "seed": 3,
        "routing": True,
    }
    whole = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).json()["choices"]
    streamed: list[dict] = [{"text": "", "logprobs": {}, "routing": {}} for _ in range(4)]
    events = httpx.post(f"{server.url}/v1/completions", json={**body, "stream": True}, timeout=60).text.splitlines()
    for line in events:
        if line.startswith("data: {"):
            (choice,) = json.loads(line[6:])["choices"]
            found = streamed[choice["index"]]
            found["text"] += choice["text"]
            for field in ("logprobs", "routing"):
                for key, items in choice[field].items():
                    found[field].setdefault(key, []).extend(items)
    for index, choice in enumerate(whole):
        assert choice["index"] == index
        assert {field: choice[field] for field in ("text", "logprobs", "routing")} == streamed[index]
    (scored,) = hnet_lm.score(model, [""], [TEXT])
    for choice in whole[:2]:
        assert choice["logprobs"]["token_logprobs"][: len(TEXT.encode())] == pytest.approx(
            scored.byte_logprobs, abs=1e-4
        )


def test_chunks_of_many_texts_come_whole_and_in_order(server: Running, model: HNetLM):
    texts = [TEXT[i : i + 50 * i] for i in range(20)]
    data = httpx.post(f"{server.url}/v1/chunks", json={"input": texts}, timeout=60).json()["data"]
    assert [item["index"] for item in data] == list(range(20))
    for text, item in zip(texts, data, strict=True):
        expected = hnet_lm.chunks(model, text)
        assert item["num_bytes"] == len(text.encode())
        assert [stage["starts"] for stage in item["stages"]] == [stage.starts.tolist() for stage in expected.stages]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": ["x" * 1000] * 4, "echo": True, "logprobs": 20}, "logprobs"),
        ({"n": 4, "max_tokens": 2000, "logprobs": 9}, "logprobs"),
        ({"prompt": "x" * 2000, "n": 8, "routing": True, "max_tokens": 1000}, "routing"),
        ({"prompt": "x" * 2000, "n": 30, "max_tokens": 0}, "prompt"),
        ({"prompt": "x", "n": 30, "max_tokens": 2000}, "prompt"),
    ],
)
def test_the_work_of_one_request_is_bounded(model: HNetLM, fields: dict, param: str):
    limits = RequestLimits(max_reported_numbers=50_000, max_total_bytes=50_000)
    with running({MODEL: model}, limits) as server:
        answer = httpx.post(f"{server.url}/v1/completions", json={"max_tokens": 1, **fields})
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["param"] == param
        assert "50,000 are allowed" in error["message"]


def test_answers_that_are_not_taken_leave_no_room_for_more(model: HNetLM):
    """Each of the streams reports as many numbers as one may; four at once are kept, and a small one is let in."""
    body = {"max_tokens": 470, "ignore_eos": True, "logprobs": 20, "stream": True}
    with running({MODEL: model}, RequestLimits(max_reported_numbers=10_000)) as server:
        with httpx.Client() as http:
            url = f"{server.url}/v1/completions"
            streams = [http.stream("POST", url, json=body, timeout=30) for _ in range(5)]
            assert [stream.__enter__().status_code for stream in streams] == [200] * 4 + [429]
            assert http.post(url, json={"max_tokens": 1}).status_code == 200
            for stream in streams:
                stream.__exit__(None, None, None)
        server.until(lambda: httpx.post(url, json={**body, "max_tokens": 1}).status_code == 200)
        server.until(lambda: server.figure("active") == 0)


def test_json_is_compact_on_one_line_and_never_nan():
    assert to_json({"a": [1, "é\u2028\ud800\n"]}) == '{"a":[1,"é\\u2028\\ud800\\n"]}'.encode()
    with pytest.raises(ValueError, match="JSON"):
        to_json(float("nan"))
