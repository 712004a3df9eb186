"""The server under load and abuse: many streams at once, among clients that do all that clients should not.

    python benchmarks/serving_load.py [--streams 200] [--seconds 120] [--output FILE.json]

Starts `hnet-lm serve` with a small random model on the loopback. Every client asks again and again, mostly for a
stream, which must be to the byte what the same request gives alone. Others vanish in the middle, stall, send the head
or the body drop by drop, send much or too much, nonsense, unknown fields or a wrong key; each must get the answer that
is due, or be told to come again later (429). Other processes ask for /health and for the first byte of a stream all the
while. Memory is the server's
resident set (Linux); it is compared between the end of the warm-up, a quarter of the time, and the end of all. Last,
streams are begun and the server is sent SIGTERM: they must come to their end. Prints JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import torch

import hnet_lm
from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM
from hnet_lm.named_configs import FOLDER

CONFIG = FOLDER / "models" / "tiny_2stage.json"
KEY = "the-right-key"
MAX_BODY_BYTES = 300_000
MAX_SEND_SECONDS = 10.0
RAMP_SECONDS = 10.0
STALL_SECONDS = 3.0
HEALTH_SECONDS = 0.1
FIRST_BYTE_SECONDS = 0.1
LARGE_PROMPTS = 8
LARGE_PROMPT_BYTES = 32_000
PROMPTS = ("", "the cat sat on ", "苹果和橘子", "def f(x):\n", "🐈 and 🐕", "ACGT" * 40)
NUM_REQUESTS = 48
MAX_WAITING_SECONDS = 3.0
MAX_REQUEST_SECONDS = 300.0
NUM_DRAINED = 8
WARM_UP_SHARE = 0.25
SAMPLE_SECONDS = 1.0


def tiny_model() -> HNetLM:
    """Random, with logits and boundaries far from ties, so that the last bits of a larger batch decide nothing."""
    torch.manual_seed(0)
    model = HNetLM(HNetConfig.load(CONFIG)).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def known_requests(model: HNetLM) -> list[tuple[dict[str, Any], str]]:
    """Requests, each with the text that it gets alone."""
    found = []
    for seed in range(NUM_REQUESTS):
        prompt, num_bytes = PROMPTS[seed % len(PROMPTS)], 16 + seed
        (text,) = hnet_lm.generate(model, [prompt], max_new_bytes=num_bytes, seed=seed, temperature=0.9)
        found.append(({"prompt": prompt, "max_tokens": num_bytes, "seed": seed, "temperature": 0.9}, text))
    return found


@dataclass
class Record:
    """What happened. `unexpected` holds the first two of each kind that should not have."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    first_byte_seconds: list[float] = field(default_factory=list)
    num_bytes: int = 0
    resident_bytes: list[int] = field(default_factory=list)

    def note(self, outcome: str, is_as_expected: bool, detail: str = "") -> None:
        self.outcomes[outcome if is_as_expected else f"{outcome}: UNEXPECTED"] += 1
        num_such = self.outcomes[f"{outcome}: UNEXPECTED"]
        if not is_as_expected and num_such <= 2:
            self.unexpected.append(f"{outcome}: {detail}"[:500])


class Client:
    """One of the many: asks until time is over."""

    def __init__(self, url: str, http: httpx.AsyncClient, known: list, record: Record, seed: int) -> None:
        self._url = f"{url}/v1/completions"
        self._address = (httpx.URL(url).host, httpx.URL(url).port)
        self._http = http
        self._known = known
        self._record = record
        self._random = random.Random(seed)

    async def run_until(self, end: float) -> None:
        deeds = {
            self.stream: 780,
            self.vanish: 80,
            self.stall: 20,
            self.send_head_slowly: 10,
            self.send_body_slowly: 10,
            self.send_much: 1,
            self.send_too_much: 30,
            self.talk_nonsense: 30,
            self.send_unknown_field: 30,
            self.use_wrong_key: 30,
        }
        await asyncio.sleep(self._random.uniform(0, RAMP_SECONDS))  # clients share a process, which has to keep up
        while time.monotonic() < end:
            (deed,) = self._random.choices(list(deeds), weights=list(deeds.values()))
            try:
                await deed()
            except (httpx.HTTPError, OSError) as error:
                self._record.note(deed.__name__, False, repr(error))

    async def stream(self) -> None:
        request, expected = self._random.choice(self._known)
        text = line = ""
        begin = time.monotonic()
        async with self._post({**request, "stream": True}) as answer:
            if await self._is_told_to_wait(answer):
                return
            is_whole = False
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    if not text:
                        self._record.first_byte_seconds.append(time.monotonic() - begin)
                    (choice,) = json.loads(line[6:]).get("choices") or [{"text": "", "finish_reason": None}]
                    text += choice["text"]
                    is_whole = choice["finish_reason"] is not None
        self._record.num_bytes += len(text.encode())
        if not is_whole:
            self._record.note("stream cut short", False, f"{answer.status_code} {line}")
            return
        self._record.note("stream correct", text == expected, f"{request}: {text!r}, not {expected!r}")

    async def vanish(self) -> None:
        request = {"prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": True, "n": 2}
        num_lines = self._random.randrange(6)
        async with self._post(request) as answer:
            if await self._is_told_to_wait(answer):
                return
            async for _ in answer.aiter_lines():
                num_lines -= 1
                if num_lines < 0:
                    break
        self._record.note("vanished", answer.status_code == 200, str(answer.status_code))

    async def stall(self) -> None:
        """Take nothing of a stream for a while, and then leave it."""
        request = {"prompt": "a", "max_tokens": 500, "ignore_eos": True, "stream": True, "n": 2, "logprobs": 5}
        async with self._post(request) as answer:
            if await self._is_told_to_wait(answer):
                return
            await asyncio.sleep(STALL_SECONDS)
        self._record.note("stalled", answer.status_code == 200, str(answer.status_code))

    async def send_head_slowly(self) -> None:
        await self._trickle("slow head, closed", b"POST /v1/completions HTTP/1.1\r\nX: ")

    async def send_body_slowly(self) -> None:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {KEY}\r\nContent-Length: 1000\r\n\r\n"
        )
        await self._trickle("slow body, closed", head.encode())

    async def _trickle(self, outcome: str, begin: bytes) -> None:
        """A byte now and then, until the server has had enough."""
        reader, writer = await asyncio.open_connection(*self._address)
        answer = asyncio.create_task(reader.read(12))
        started = time.monotonic()
        writer.write(begin)
        while not answer.done() and time.monotonic() - started < 4 * MAX_SEND_SECONDS:
            await asyncio.wait({answer}, timeout=0.5)
            if not answer.done():
                writer.write(b"a")
        said = answer.result() if answer.done() else b"nothing"
        answer.cancel()
        writer.close()
        # A byte that arrives after the refusal resets the connection, and may take the refusal with it.
        self._record.note(outcome, said in (b"HTTP/1.1 408", b""), repr(said))

    async def send_much(self) -> None:
        """As much as is allowed in one request: a body of 260 kB. It may take longer than a request may (504)."""
        prompts = ["x" * LARGE_PROMPT_BYTES] * LARGE_PROMPTS
        body = {"prompt": prompts, "max_tokens": 0, "echo": True, "logprobs": 0}
        answer = await self._http.post(self._url, json=body, headers={"authorization": f"Bearer {KEY}"})
        if await self._is_told_to_wait(answer):
            return
        if answer.status_code == 504:
            self._record.note("260 kB, 504", True)
            return
        choices = answer.json().get("choices", ())
        found = [(choice["text"], len(choice["logprobs"]["token_logprobs"])) for choice in choices]
        is_right = found == [(prompt, LARGE_PROMPT_BYTES) for prompt in prompts]
        self._record.note("260 kB correct", is_right, answer.text[:200])

    async def _is_told_to_wait(self, answer: httpx.Response) -> bool:
        """Whether it was refused for now; then it is told for how long, and waits so long (10 s at most)."""
        if answer.status_code != 429:
            return False
        seconds = int(answer.headers.get("retry-after", "0"))
        self._record.note("come again later, 429", seconds >= 1, "no Retry-After")
        await asyncio.sleep(min(seconds, 10))
        return True

    async def send_unknown_field(self) -> None:
        await self._refused("unknown field", 400, b'{"prompt": "a", "max_tokns": 1}')

    async def talk_nonsense(self) -> None:
        await self._refused("bad JSON", 400, b'{"prompt": "a", ')

    async def send_too_much(self) -> None:
        await self._refused("huge body", 413, json.dumps({"prompt": "a" * 2 * MAX_BODY_BYTES}).encode())

    async def use_wrong_key(self) -> None:
        await self._refused("wrong key", 401, b'{"prompt": "a"}', key="the-wrong-key")

    async def _refused(self, outcome: str, status: int, content: bytes, key: str = KEY) -> None:
        headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}
        answer = await self._http.post(self._url, content=content, headers=headers)
        self._record.note(f"{outcome}, {status}", answer.status_code == status, str(answer.status_code))

    def _post(self, body: dict[str, Any]) -> Any:
        return self._http.stream("POST", self._url, json=body, headers={"authorization": f"Bearer {KEY}"})


def health_waits(url: str, seconds: float) -> list[float]:
    """How long /health took, again and again. In a process of its own, so that nothing but the server delays it."""
    waits = []
    end = time.monotonic() + seconds
    with httpx.Client(timeout=60) as http:
        while time.monotonic() < end:
            begin = time.monotonic()
            http.get(f"{url}/health").raise_for_status()
            waits.append(time.monotonic() - begin)
            time.sleep(HEALTH_SECONDS)
    return waits


def first_byte_waits(url: str, seconds: float) -> list[float | None]:
    """How long the first byte of a short stream took, again and again, also in a process of its own: 200 clients in one
    keep each other waiting. None where the server had no room (429)."""
    waits: list[float | None] = []
    end = time.monotonic() + seconds
    headers = {"authorization": f"Bearer {KEY}"}
    body = {"prompt": "Once upon a time", "max_tokens": 4, "ignore_eos": True, "stream": True}
    with httpx.Client(timeout=2 * MAX_REQUEST_SECONDS, headers=headers) as http:
        while time.monotonic() < end:
            begin = time.monotonic()
            with http.stream("POST", f"{url}/v1/completions", json=body) as answer:
                if answer.status_code == 429:
                    waits.append(None)
                    time.sleep(int(answer.headers["retry-after"]))
                    continue
                answer.raise_for_status()
                lines = [(time.monotonic() - begin, line) for line in answer.iter_lines() if line.startswith("data: {")]
            waits.append(lines[0][0])
            time.sleep(FIRST_BYTE_SECONDS)
    return waits


def resident_bytes(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def load(url: str, pid: int, known: list, num_streams: int, seconds: float) -> Record:
    record = Record()
    end = time.monotonic() + seconds

    async def watch_memory() -> None:
        while time.monotonic() < end:
            record.resident_bytes.append(resident_bytes(pid))
            await asyncio.sleep(SAMPLE_SECONDS)

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=num_streams)
    async with httpx.AsyncClient(timeout=2 * MAX_REQUEST_SECONDS, limits=limits) as http:
        clients = [Client(url, http, known, record, seed) for seed in range(num_streams)]
        await asyncio.gather(watch_memory(), *(client.run_until(end) for client in clients))
    return record


async def drain(url: str, server: subprocess.Popen, known: list) -> int:
    """How many of some streams that run when SIGTERM comes are to the byte what they should be."""
    has_begun = [asyncio.Event() for _ in range(NUM_DRAINED)]

    async def stream(http: httpx.AsyncClient, index: int) -> bool:
        request, expected = known[-1 - index]
        text = ""
        headers = {"authorization": f"Bearer {KEY}"}
        async with http.stream("POST", f"{url}/v1/completions", json={**request, "stream": True}, headers=headers) as a:
            has_begun[index].set()
            async for line in a.aiter_lines():
                text += json.loads(line[6:])["choices"][0]["text"] if line.startswith("data: {") else ""
        return text == expected

    async with httpx.AsyncClient(timeout=60) as http:
        streams = [asyncio.create_task(stream(http, index)) for index in range(NUM_DRAINED)]
        await asyncio.gather(*(event.wait() for event in has_begun))
        server.terminate()
        return sum(await asyncio.gather(*streams))


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    (name, *_) = [line.partition(": ")[2] for line in lines if line.startswith("model name")] or [platform.machine()]
    return f"{len(os.sched_getaffinity(0))} cores of {name}, nice {os.nice(0)}"


def report(
    record: Record,
    health: list[float],
    first_bytes: list[float | None],
    num_streams: int,
    seconds: float,
    num_drained: int,
    server_exit: int,
) -> dict[str, Any]:
    samples = record.resident_bytes
    begin = int(len(samples) * WARM_UP_SHARE)
    window = max(len(samples) // 8, 1)
    before, after = (statistics.median(part) for part in (samples[begin : begin + window], samples[-window:]))
    return {
        "machine": machine(),
        "streams_at_once": num_streams,
        "seconds": seconds,
        "outcomes": dict(sorted(record.outcomes.items())),
        "unexpected": record.unexpected,
        "bytes_per_second": round(record.num_bytes / seconds),
        "first_byte_seconds": {
            "to a process of its own": _waits([wait for wait in first_bytes if wait is not None]),
            "to the process of all clients": _waits(record.first_byte_seconds),
        },
        "health_seconds": _waits(health),
        "resident_megabytes": {"after_warm_up": _megabytes(before), "end": _megabytes(after)},
        "resident_megabytes_every_10_s": [_megabytes(sample) for sample in samples[:: round(10 / SAMPLE_SECONDS)]],
        "memory_growth_percent": round(100 * (after / before - 1), 2),
        "drained_at_sigterm": f"{num_drained} of {NUM_DRAINED}",
        "server_exit_code": server_exit,
    }


def _waits(seconds: list[float]) -> dict[str, float]:
    ordered = sorted(seconds)
    found = {"median": statistics.median(ordered), "p99": ordered[len(ordered) * 99 // 100], "worst": ordered[-1]}
    return {"asked": len(ordered), **{name: round(value, 3) for name, value in found.items()}}


def _megabytes(num_bytes: float) -> float:
    return round(num_bytes / 1e6, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=200, help="clients at once")
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--output", type=Path, help="also save the JSON here")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = tiny_model()
    known = known_requests(model)
    with tempfile.TemporaryDirectory() as folder:
        hnet_lm.save(model, Path(folder, "tiny"))
        Path(folder, "keys").write_text(KEY)
        serve = [sys.executable, "-c", "from hnet_lm.cli.main import main; main()", "serve", f"{folder}/tiny"]
        serve += ["--port", "0", "--api-key-file", f"{folder}/keys", "--limits.max-body-bytes", str(MAX_BODY_BYTES)]
        serve += [
            "--limits.max-body-seconds",
            str(MAX_SEND_SECONDS),
            "--limits.max-head-seconds",
            str(MAX_SEND_SECONDS),
        ]
        serve += ["--engine.max-active", str(arguments.streams), "--limits.max-waiting", str(4 * arguments.streams)]
        serve += ["--limits.max-waiting-seconds", str(MAX_WAITING_SECONDS)]
        serve += ["--limits.max-request-seconds", str(MAX_REQUEST_SECONDS)]
        with (
            subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server,
            ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as other,
        ):
            assert server.stdout is not None
            url = server.stdout.readline().split()[3]
            load_before = os.getloadavg()[0]
            ready = [
                other.submit(time.sleep, 5.0) for _ in range(2)
            ]  # it takes seconds until those processes are there
            wait(ready)
            asked = other.submit(health_waits, url, arguments.seconds)
            begun = other.submit(first_byte_waits, url, arguments.seconds)
            record = asyncio.run(load(url, server.pid, known, arguments.streams, arguments.seconds))
            health, first_bytes = asked.result(), begun.result()
            load_after = os.getloadavg()[0]
            num_drained = asyncio.run(drain(url, server, known))
            server.wait(timeout=60)
    result = report(record, health, first_bytes, arguments.streams, arguments.seconds, num_drained, server.returncode)
    result["load_average_before_and_after"] = [round(load_before, 1), round(load_after, 1)]
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
