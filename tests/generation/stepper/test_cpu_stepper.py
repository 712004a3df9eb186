"""The compiled step beside the modules it stands for, which models it refuses, and what it checks when it is built.

That it gives what the forward gives, in streams that come and go, is a law (`test_stepper`).
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation.stepper import CpuStepper, PlainStepper, build_stepper
from hnet_lm.generation.stepper.cpu.products import FEW
from hnet_lm.model import HNetLM

NUM_STREAMS = FEW + 9
CHUNKERS: dict[str, list[dict[str, Any]]] = {
    "routing module": [],
    "space": [{"name": "space"}],
    "pool": [{"name": "pool", "stride": 3}],
    "random": [{"name": "random", "rate": 0.4, "seed": 5}],
}


def model_of(
    outer: str = "m1T1",
    inner: str = "t1M1",
    *,
    dtype: torch.dtype = torch.float64,
    d_state: int = 8,
    d_conv: int = 4,
    windows: tuple[int, int] = (5, -1),
    rotary: int = 8,
    num_heads: int = 2,
    **options: Any,
) -> HNetLM:
    """One stage, whose vectors are all of the size of 1 so that every part matters."""
    config = HNetConfig.from_dict(
        {
            "arch_layout": [outer, [inner], outer],
            "d_model": [64, 128],
            "d_intermediate": [24, 40],
            "ssm_cfg": {"d_state": d_state, "d_conv": d_conv, "expand": 2, "chunk_size": 16},
            "attn_cfg": {"num_heads": [num_heads] * 2, "rotary_emb_dim": [rotary] * 2, "window_size": list(windows)},
            **options,
        }
    )
    model = HNetLM(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "routing" in name:
                weight.copy_(torch.eye(len(weight), 3) @ torch.randn(3, len(weight)))
            elif weight.dim() == 2:
                weight.normal_(std=weight.shape[1] ** -0.5)
            elif name.endswith(("norm.weight", ".D")):
                weight.uniform_(0.5, 1.5)
            elif "bias" in name or "pad_vector" in name:
                weight.normal_(std=0.5)
    return model.to(dtype).requires_grad_(False)


@torch.no_grad()
def check(model: HNetLM, num_streams: int = 5, num_steps: int = 12, atol: float = 1e-9, **options: Any) -> float:
    """Steps of fewer and fewer streams beside the plain stepper's; the share of positions that were boundaries."""
    compiled, plain = (kind(model, num_streams, pool_bytes=2**22, **options) for kind in (CpuStepper, PlainStepper))
    streams = [compiled.admit() for _ in range(num_streams)]
    assert streams == [plain.admit() for _ in range(num_streams)]
    starts, positions = 0, 0
    for step in range(num_steps):
        some = [streams[i] for i in torch.randperm(num_streams)[: num_streams - step * num_streams // num_steps]]
        ids = torch.randint(32, 100, (len(some),)).tolist()
        actual, expected = compiled.step(some, ids), plain.step(some, ids)
        torch.testing.assert_close(actual.logits, expected.logits, rtol=0, atol=atol)
        for i in range(len(some)):
            found, wanted = actual.boundaries(i), expected.boundaries(i)
            assert [b.depth for b in found] == [b.depth for b in wanted]
            assert [b.probs for b in found] == [pytest.approx(b.probs, abs=1e-6 + atol) for b in wanted]
            starts, positions = starts + sum(b.depth > 0 for b in found), positions + 1
    return starts / positions


@pytest.mark.parametrize("chunker", CHUNKERS)
def test_every_chunker(chunker: str) -> None:
    share = check(model_of(**({"chunkers": CHUNKERS[chunker]} if CHUNKERS[chunker] else {})))
    assert 0.1 < share < 0.9


@pytest.mark.parametrize(
    "options",
    [
        {"outer": "m1", "d_conv": 1, "d_state": 3},
        {"outer": "m1", "d_conv": 2, "d_state": 1},
        {"outer": "M1", "d_state": 70},
        {"outer": "t1", "windows": (0, 1)},
        {"outer": "t1", "windows": (63, 200), "rotary": 0},
        {"outer": "T1", "num_heads": 1, "rotary": 64},
        {"outer": "T1", "num_heads": 16, "rotary": 2},
        {"tie_embeddings": True},
        {"vocab_size": 258},
    ],
    ids=str,
)
def test_sizes_of_all_kinds(options: dict[str, Any]) -> None:
    check(model_of(**options))


@pytest.mark.parametrize("windows", [(-1, -1), (40, 70)])
def test_contexts_of_several_pages(windows: tuple[int, int]) -> None:
    check(model_of("t1", "T1", windows=windows), num_streams=2, num_steps=200)


def test_spacebyte() -> None:
    check(model_of(chunkers=CHUNKERS["space"], spacebyte=True))


def test_many_streams() -> None:
    check(model_of(), NUM_STREAMS, num_steps=6)


@pytest.mark.parametrize("weights", ["bfloat16", "int8"])
def test_many_streams_with_rounded_weights(weights: str) -> None:
    check(model_of(), NUM_STREAMS, num_steps=6, atol=1e-4, weights=weights)


def test_keys_and_values_in_bfloat16() -> None:
    """Both steppers round the same numbers, but for those whose last bit tips the rounding."""
    check(model_of("t1", "T1"), atol=0.05, keys_values="bfloat16")


def test_no_stream_and_one() -> None:
    model = model_of(dtype=torch.float32)
    stepper = CpuStepper(model, 1, pool_bytes=2**22)
    assert stepper.step([], []).logits.shape == (0, 256)
    stream = stepper.admit()
    first = stepper.step([stream], [65])
    kept = first.logits.clone()
    stepper.step([stream], [66])
    assert first.logits.equal(kept)  # not the memory of the next step
    assert first.boundaries(0)[0].depth == 1


def replaced_layer(model: HNetLM) -> None:
    class Adapted(nn.Linear):
        pass

    model.get_submodule("network.encoder.blocks.0.mixer").in_proj = Adapted(64, 256 + 16 + 2, bias=False)


def biased_layer(model: HNetLM) -> None:
    model.get_submodule("network.encoder.blocks.1.mlp").fc2 = nn.Linear(24, 64)


def patched_forward(model: HNetLM) -> None:
    model.network.forward = lambda *_: None


def half_precision(model: HNetLM) -> None:
    model.to(torch.bfloat16)


def mixed_precision(model: HNetLM) -> None:
    model.network.get_submodule("routing").double()


def strided_weight(model: HNetLM) -> None:
    layer: Any = model.lm_head
    layer.weight = nn.Parameter(layer.weight.detach().T.contiguous().T)


class OtherTensor(Tensor):
    """As libraries that quantise put in a weight's place."""


def other_tensor(model: HNetLM) -> None:
    layer: Any = model.lm_head
    layer.weight = nn.Parameter(layer.weight.detach().as_subclass(OtherTensor), requires_grad=False)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda model: model.lm_head.register_forward_hook(lambda *_: None), "lm_head has hooks"),
        (lambda model: model.register_forward_pre_hook(lambda *_: None), "the model has hooks"),
        (lambda model: parametrizations.weight_norm(model.lm_head), "lm_head is a Parametrized"),
        (replaced_layer, "network.encoder.blocks.0.mixer.in_proj is a Adapted"),
        (biased_layer, "network.encoder.blocks.1.mlp.fc2 has a bias"),
        (patched_forward, "network has hooks, or a forward of its own"),
        (half_precision, "it computes in torch.bfloat16"),
        (
            mixed_precision,
            "network.routing.q_proj has a weight of torch.float64 in a model that computes in torch.float32",
        ),
        (strided_weight, r"lm_head has a weight on cpu, of strides \(1, 256\)"),
        (other_tensor, "lm_head has a weight that is a OtherTensor"),
        (lambda model: model.to("meta"), "the embedding has a weight on meta"),
    ],
)
def test_what_compiled_loops_cannot_stand_for(change: Callable[[HNetLM], Any], reason: str) -> None:
    model = model_of(dtype=torch.float32)
    assert CpuStepper.supports(model) is None
    assert type(build_stepper(model, 2, pool_bytes=2**22)) is CpuStepper
    change(model)
    with pytest.raises(ConfigError, match=f"CpuStepper does not support this model: .*{reason.removeprefix('the ')}"):
        CpuStepper(model, 2)


@pytest.mark.parametrize("chunkers", [[{"name": "oracle"}]])
def test_chunkers_that_it_leaves_to_the_plain_stepper(chunkers: list[Any]) -> None:
    assert CpuStepper.supports(model_of(chunkers=chunkers)) == "network.routing is a OracleChunker"


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("lm_head.weight", (256, 65), r"lm_head.weight is \(256, 65\).* needs \(256, 64\)"),
        ("network.encoder.norm.weight", (63,), r"network.encoder.norm.weight is \(63,\).* needs \(64,\)"),
        ("network.encoder.blocks.0.mixer.A_log", (3,), r"mixer.A_log is \(3,\).* needs \(2,\)"),
        (
            "network.encoder.blocks.0.mixer.conv.weight",
            (144, 1, 3),
            r"conv.weight is \(144, 1, 3\).* needs \(144, 1, 4\)",
        ),
        ("network.routing.k_proj.weight", (64, 32), r"routing.k_proj.weight is \(64, 32\).* needs \(64, 64\)"),
        ("network.residual_proj.bias", (1,), r"residual_proj.bias is \(1,\).* needs \(64,\)"),
        ("embedding.weight", (255, 64), r"embedding.weight is \(255, 64\).* needs \(256, 64\)"),
    ],
)
def test_weights_of_other_shapes_are_refused(name: str, shape: tuple[int, ...], message: str) -> None:
    model = model_of(dtype=torch.float32)
    owner, _, attribute = name.rpartition(".")
    setattr(model.get_submodule(owner), attribute, nn.Parameter(torch.ones(shape)))
    with pytest.raises(ValueError, match=message):
        CpuStepper(model, 2, pool_bytes=2**22)


@pytest.mark.parametrize("page", [-1, 10**9])
def test_a_page_table_that_leads_astray_is_an_error(page: int) -> None:
    stepper = CpuStepper(model_of("t1", "t1", dtype=torch.float32), 2, pool_bytes=2**22)
    stream = stepper.admit()
    stepper.step([stream], [65])
    state: Any = stepper.state
    state.encoder.blocks[0].table[stream, 0] = page
    with pytest.raises(RuntimeError, match="the page table of a stream does not lead to pages of the pool"):
        stepper.step([stream], [66])


@pytest.mark.parametrize("ids", [[65.0], [True], ["A"], [[65]]])
def test_ids_that_are_no_integers(ids: list[Any]) -> None:
    stepper = CpuStepper(model_of(dtype=torch.float32), 2, pool_bytes=2**22)
    with pytest.raises(TypeError):
        stepper.step([stepper.admit()], ids)
