"""The step as a CUDA graph: what the plain stepper gives, in streams that come and go, and no wait within it."""

import random
from typing import Any

import pytest
import torch
from waiting import no_waits

from hnet_lm.config import HNetConfig
from hnet_lm.generation.rounded_weights import Weights
from hnet_lm.generation.stepper import CudaStepper, PlainStepper, StaticStepper, Stepper, build_stepper
from hnet_lm.model import HNetLM
from hnet_lm.testing.small import TEXT, small_config, small_model

GROUPED = {"num_heads": [4, 4], "num_kv_heads": [2, 2], "head_dim": [16, 16], "rotary_emb_dim": [8, 8]}


def model(**attention: Any) -> HNetLM:
    table = small_config({"name": "dynamic"}).to_dict()
    table["attn_cfg"] = table["attn_cfg"] | attention
    found = small_model(HNetConfig.from_dict(table | {"arch_layout": ["m1t1", ["T1m1"], "t1"]}))
    torch.manual_seed(0)
    for name, parameter in found.named_parameters():
        if "routing" in name:  # boundaries spread, so that the inner stage has something to do
            torch.nn.init.normal_(parameter)
    return found.float().cuda().requires_grad_(False)


@pytest.mark.parametrize("attention", [{}, {"window_size": [7, 20]}, GROUPED], ids=["global", "windows", "grouped"])
@pytest.mark.parametrize("weights", [None, "bfloat16", "int8"])
def test_gives_what_the_plain_stepper_gives(weights: Weights | None, attention: dict[str, Any]) -> None:
    rng, on_gpu = random.Random(0), model(**attention)
    graph, plain = (kind(on_gpu, 4, weights=weights, pool_bytes=2**22) for kind in (CudaStepper, PlainStepper))
    atol = 0.1 if weights == "bfloat16" else 1e-4
    live: list[int] = []
    for _ in range(400):  # contexts pass 256 entries: a second graph
        if len(live) < 4 and rng.random() < 0.2:
            live.append(graph.admit())
            assert plain.admit() == live[-1]
            spans = [[254, *TEXT[: rng.randrange(40)]]]
            found, expected = (each.extend(live[-1:], spans).logits for each in (graph, plain))
        elif len(live) > 1 and rng.random() < 0.02:
            gone = live.pop(rng.randrange(len(live)))
            graph.drop(gone)
            plain.drop(gone)
            continue
        else:
            some = rng.sample(live, rng.randint(0, len(live)))
            ids = [rng.choice(TEXT) for _ in some]
            found, expected = (each.step(some, ids).logits for each in (graph, plain))
        torch.testing.assert_close(found, expected, rtol=0, atol=atol)


def write(stepper: Stepper) -> list[list[int]]:
    assert isinstance(stepper, StaticStepper)
    streams = [stepper.admit() for _ in range(3)]
    stepper.extend(streams, [[254, *TEXT[: 5 * stream]] for stream in streams])
    uniforms = torch.rand(40, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return stepper.write(streams, 40, temperature=[0.0, 0.7, 1.0], uniforms=uniforms)


def test_writes_what_the_same_step_writes_uncaptured() -> None:
    on_gpu = model()
    assert write(CudaStepper(on_gpu, 3, pool_bytes=2**22)) == write(StaticStepper(on_gpu, 3, pool_bytes=2**22))


def test_it_is_what_decodes_on_a_gpu_and_does_not_wait() -> None:
    stepper = build_stepper(model(), 3, pool_bytes=2**22)
    assert isinstance(stepper, CudaStepper)
    streams = [stepper.admit() for _ in range(3)]
    stepper.step(streams, [254, 254, 254])  # the graph is captured
    with no_waits():
        for step in range(60):
            some = streams[step % 3 :]
            stepper.step(some, [65] * len(some))
