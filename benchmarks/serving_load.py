"""The server under load and abuse: many streams at once, among clients that do all that clients should not.

    python benchmarks/serving_load.py [--streams 200] [--seconds 120] [--output FILE.json]

Starts `hnet-lm serve` with a small random model on the loopback. Every client asks again and again, mostly for a
stream, which must be to the byte what the same request gives alone. Others vanish in the middle, stall, send the head
or the body drop by drop, send much or too much, nonsense, unknown fields or a wrong key; each must get the answer that
is due. Another process asks for /health all the while. Memory is the server's resident set (Linux); it is compared
between the end of the warm-up, a quarter of the time, and the end of all. Prints JSON.
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
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
MAX_SEND_SECONDS = 5.0
STALL_SECONDS = 3.0
HEALTH_SECONDS = 0.1
LARGE_PROMPTS = 8
LARGE_PROMPT_BYTES = 32_000
PROMPTS = ("", "the cat sat on ", "苹果和橘子", "def f(x):\n", "🐈 and 🐕", "ACGT" * 40)
NUM_REQUESTS = 48
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
    """What happened. `unexpected` holds the first few things that should not have."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    first_byte_seconds: list[float] = field(default_factory=list)
    num_bytes: int = 0
    resident_bytes: list[int] = field(default_factory=list)

    def note(self, outcome: str, is_as_expected: bool, detail: str = "") -> None:
        self.outcomes[outcome if is_as_expected else f"{outcome}: UNEXPECTED"] += 1
        if not is_as_expected and len(self.unexpected) < 5:
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
        while time.monotonic() < end:
            (deed,) = self._random.choices(list(deeds), weights=list(deeds.values()))
            try:
                await deed()
            except (httpx.HTTPError, OSError) as error:
                self._record.note(deed.__name__, False, repr(error))

    async def stream(self) -> None:
        request, expected = self._random.choice(self._known)
        text = ""
        begin = time.monotonic()
        async with self._post({**request, "stream": True}) as answer:
            async for line in answer.aiter_lines():
                if line.startswith("data: {"):
                    if not text:
                        self._record.first_byte_seconds.append(time.monotonic() - begin)
                    text += json.loads(line[6:])["choices"][0]["text"]
        self._record.num_bytes += len(text.encode())
        self._record.note("stream correct", text == expected, f"{request}: {text!r}, not {expected!r}")

    async def vanish(self) -> None:
        request = {"prompt": "a", "max_tokens": 2000, "ignore_eos": True, "stream": True, "n": 2}
        num_lines = self._random.randrange(6)
        async with self._post(request) as answer:
            async for _ in answer.aiter_lines():
                num_lines -= 1
                if num_lines < 0:
                    break
        self._record.note("vanished", answer.status_code == 200, str(answer.status_code))

    async def stall(self) -> None:
        """Take nothing of a stream for a while, and then leave it."""
        request = {"prompt": "a", "max_tokens": 500, "ignore_eos": True, "stream": True, "n": 2, "logprobs": 5}
        async with self._post(request) as answer:
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
        """As much as is allowed in one request: a body of 260 kB."""
        prompts = ["x" * LARGE_PROMPT_BYTES] * LARGE_PROMPTS
        body = {"prompt": prompts, "max_tokens": 0, "echo": True, "logprobs": 0}
        answer = await self._http.post(self._url, json=body, headers={"authorization": f"Bearer {KEY}"})
        choices = answer.json().get("choices", ())
        found = [(choice["text"], len(choice["logprobs"]["token_logprobs"])) for choice in choices]
        is_right = found == [(prompt, LARGE_PROMPT_BYTES) for prompt in prompts]
        self._record.note("260 kB correct", is_right or answer.status_code == 429, answer.text[:200])

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
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:
        clients = [Client(url, http, known, record, seed) for seed in range(num_streams)]
        await asyncio.gather(watch_memory(), *(client.run_until(end) for client in clients))
    return record


def report(record: Record, health: list[float], num_streams: int, seconds: float, server_exit: int) -> dict[str, Any]:
    samples = record.resident_bytes
    begin = int(len(samples) * WARM_UP_SHARE)
    window = max(len(samples) // 8, 1)
    before, after = (statistics.median(part) for part in (samples[begin : begin + window], samples[-window:]))
    waits = sorted(record.first_byte_seconds)
    return {
        "streams_at_once": num_streams,
        "seconds": seconds,
        "outcomes": dict(sorted(record.outcomes.items())),
        "unexpected": record.unexpected,
        "bytes_per_second": round(record.num_bytes / seconds),
        "first_byte_seconds": {
            "median": round(statistics.median(waits), 3),
            "p99": round(waits[len(waits) * 99 // 100], 3),
        },
        "health_seconds": {
            "asked": len(health),
            "median": round(statistics.median(health), 3),
            "worst": round(max(health), 3),
        },
        "resident_megabytes": {"after_warm_up": _megabytes(before), "end": _megabytes(after)},
        "resident_megabytes_every_10_s": [_megabytes(sample) for sample in samples[:: round(10 / SAMPLE_SECONDS)]],
        "memory_growth_percent": round(100 * (after / before - 1), 2),
        "server_exit_code": server_exit,
    }


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
        with (
            subprocess.Popen(serve, stdout=subprocess.PIPE, text=True) as server,
            ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other,
        ):
            assert server.stdout is not None
            url = server.stdout.readline().split()[3]
            other.submit(health_waits, url, 0.0).result()  # it takes seconds until that process is there
            asked = other.submit(health_waits, url, arguments.seconds)
            record = asyncio.run(load(url, server.pid, known, arguments.streams, arguments.seconds))
            health = asked.result()
            server.terminate()
            server.wait(timeout=60)
    result = report(record, health, arguments.streams, arguments.seconds, server.returncode)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    if arguments.output:
        arguments.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
