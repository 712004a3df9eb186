"""A server on a free port of the loopback, in a thread, with a tiny model that was saved and loaded."""

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import httpx
import torch

from hnet_lm.config import HNetConfig
from hnet_lm.generation import EngineLimits
from hnet_lm.model import HNetLM
from hnet_lm.serving.api_keys import ApiKeys
from hnet_lm.serving.app import Awaited, create_app
from hnet_lm.serving.limits import RateLimits, RequestLimits
from hnet_lm.serving.server import listen, make_server, url

MODEL = "tiny"


def tiny_model(arch_layout: list) -> HNetLM:
    """Random, with logits far apart and boundaries at every few bytes."""
    num = 1
    inner = arch_layout
    while len(inner) == 3:
        num, inner = num + 1, inner[1]
    config = HNetConfig.from_dict(
        {
            "arch_layout": arch_layout,
            "d_model": [32] * num,
            "d_intermediate": [48] * num,
            "vocab_size": 256,
            "ssm_cfg": {"d_state": 8, "chunk_size": 16},
            "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [16] * num, "window_size": [-1] * num},
        }
    )
    torch.manual_seed(0)
    model = HNetLM(config).requires_grad_(False)
    for name, parameter in model.named_parameters():
        if "routing" in name or "lm_head" in name:
            torch.nn.init.normal_(parameter, 0.0, 0.3)
    return model


def ending_model(prompt: str) -> HNetLM:
    """A tiny model that ends the text after this prompt, nearly for certain."""
    model = tiny_model(["m1", ["T1"], "m1"])
    seen: list[torch.Tensor] = []
    hook = model.lm_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    model(torch.tensor([[model.config.bos_id, *prompt.encode()]]))
    hook.remove()
    model.lm_head.weight[model.config.eos_id] = seen[0].reshape(-1, seen[0].shape[-1])[-1]
    return model.eval()


@dataclass(frozen=True)
class Running:
    url: str
    app: object
    loop: asyncio.AbstractEventLoop

    def figure(self, name: str) -> float:
        """One figure of /metrics, all labels added up."""
        lines = httpx.get(f"{self.url}/metrics").text.splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.partition("{")[0] == f"hnet_lm_{name}")

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        assert parts.hostname is not None
        assert parts.port is not None
        return parts.hostname, parts.port

    def chunks(self, text: str) -> dict[str, Any]:
        """What /v1/chunks answers about a text."""
        return httpx.post(f"{self.url}/v1/chunks", json={"model": MODEL, "input": text}).json()["data"][0]

    def connect(self) -> socket.socket:
        return socket.create_connection(self.address, timeout=30)

    def until(self, condition: Callable[[], bool], seconds: float = 5.0) -> None:
        """Wait for a condition; fail when it does not come true."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, "the condition did not come true in time"
            time.sleep(0.01)


@contextmanager
def running(
    models: dict[str, HNetLM],
    limits: RequestLimits | None = None,
    engine: EngineLimits | None = None,
    keys: ApiKeys | None = None,
    rates: RateLimits | None = None,
    allow_origins: tuple[str, ...] = (),
    runs: dict[str, Callable[[], dict[str, Any]]] | None = None,
    awaited: dict[str, Awaited] | None = None,
) -> Iterator[Running]:
    app = create_app(models, limits, engine, keys, rates, allow_origins, runs=runs, awaited=awaited)
    listener = listen("127.0.0.1", 0)
    server = make_server(app, limits or RequestLimits(), drain_seconds=5)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        yield Running(url(listener), app, server.servers[0].get_loop())
    finally:
        server.should_exit = True
        thread.join()
