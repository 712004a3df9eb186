"""The step of fixed shapes: what it chooses, which models it takes, and the pages it holds.

That it gives what the forward gives, in streams that come and go, is a law (`test_stepper`); that it waits for nothing
is in `tests/model/test_waits.py`, and its graph in `tests/gpu`.
"""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation.params import SamplingParams
from hnet_lm.generation.sampling import sample
from hnet_lm.generation.stepper import OutOfPages, PlainStepper, StaticStepper, build_stepper
from hnet_lm.generation.stepper.fixed_step import choose
from hnet_lm.model import HNetLM
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.testing.small import TEXT, small_config, small_model

CHUNKERS: list[dict[str, Any]] = [
    {"name": "cosine"},
    {"name": "linear"},
    {"name": "policy", "decide": "sample"},
    {"name": "pool", "stride": 3},
    {"name": "random", "rate": 0.4},
    {"name": "space"},
]


@pytest.fixture(autouse=True)
def _eager() -> Iterator[None]:
    """As on a device that has no compiled loops."""
    with use_backend("eager"):
        yield


def model_of(chunker: dict[str, Any] | None = None) -> HNetLM:
    return small_model(small_config(chunker or {"name": "dynamic"})).float().requires_grad_(False)


@pytest.mark.parametrize("chunker", CHUNKERS, ids=lambda chunker: chunker["name"])
def test_every_chunker_of_one_position(chunker: dict[str, Any]) -> None:
    model = model_of(chunker)
    steppers = [kind(model, 3, pool_bytes=2**20) for kind in (StaticStepper, PlainStepper)]
    streams = [steppers[0].admit() for _ in range(3)]
    assert [steppers[1].admit() for _ in range(3)] == streams
    for step, byte in enumerate(TEXT[:30]):
        taking_part = streams[step % 2 :]
        found, expected = (stepper.step(taking_part, [byte, *TEXT[:3]][: len(taking_part)]) for stepper in steppers)
        torch.testing.assert_close(found.logits, expected.logits, rtol=0, atol=1e-5)
        for index in range(len(taking_part)):
            (one,), (other,) = found.boundaries(index), expected.boundaries(index)
            assert one.depth == other.depth
            assert one.probs == pytest.approx(other.probs, abs=1e-5)


def test_what_it_chooses_is_what_sampling_chooses() -> None:
    logits, uniform = 3 * torch.randn(64, 256), torch.rand(64, dtype=torch.float64)
    temperature = torch.tensor([0.0, 1e-30, 0.7, 2.0], dtype=torch.float64).repeat(16)
    allowed = torch.rand(256) < 0.5
    params = [SamplingParams(temperature=each) for each in temperature.tolist()]
    seen = torch.zeros(64, 256, dtype=torch.bool)
    expected = sample(logits, params, uniform.tolist(), allowed.expand(64, -1), seen)
    found = choose(logits, temperature[:, None], uniform, allowed)
    assert found.equal(expected)
    assert not found.equal(logits.argmax(-1))


def test_writing_is_choosing_and_reading_one_id_after_the_other() -> None:
    model, num_ids = model_of(), 37
    stepper, other = (StaticStepper(model, 4, pool_bytes=2**20) for _ in range(2))
    prompts = [[254, *TEXT[:20]], [254], [254, *TEXT[5:9]]]
    streams = [stepper.admit() for _ in prompts]
    assert streams == [other.admit() for _ in prompts]
    temperature, uniforms = [0.0, 1.0, 0.5], torch.rand(num_ids, 3, dtype=torch.float64)
    allowed = torch.arange(256) < 254
    stepper.extend(streams, prompts)
    written = stepper.write(streams, num_ids, temperature=temperature, uniforms=uniforms, allowed=allowed)
    logits = torch.cat([other.extend([s], [ids]).logits[-1:] for s, ids in zip(streams, prompts, strict=True)])
    params = [SamplingParams(temperature=each) for each in temperature]
    seen = torch.zeros(3, 256, dtype=torch.bool)
    expected: list[list[int]] = []
    for uniform in uniforms.tolist():
        expected.append(sample(logits, params, uniform, allowed.expand(3, -1), seen).tolist())
        logits = other.step(streams, expected[-1]).logits
    assert written == [list(ids) for ids in zip(*expected, strict=True)]
    for stage in stepper.memory.stages:  # what is reckoned with is never too little
        for stream in streams:
            num_seen = int(stage.num_seen[stream])
            assert stage.most_seen(stream) >= num_seen
            assert stage.num_held(stream) >= stage.num_pages(num_seen)
    after = [each.step(streams, [65, 66, 67]).logits for each in (stepper, other)]
    torch.testing.assert_close(*after, rtol=0, atol=1e-5)


def test_what_cannot_be_written_is_said() -> None:
    stepper = StaticStepper(model_of(), 2, pool_bytes=2**18)
    stream = stepper.admit()
    with pytest.raises(ValueError, match=f"stream {stream} has read nothing that it could go on from"):
        stepper.write([stream], 1)
    stepper.step([stream], [254])
    with pytest.raises(ValueError, match="temperature must be 0 or more, one per stream"):
        stepper.write([stream], 1, temperature=[0.5, 0.5])
    with pytest.raises(ValueError, match=r"uniforms must be \(3, 1\) numbers in \[0, 1\)"):
        stepper.write([stream], 3, temperature=[0.5])
    num_free = stepper.pool.num_free
    with pytest.raises(OutOfPages):
        stepper.write([stream], 10**6)
    assert stepper.pool.num_free == num_free
    state: Any = stepper.state
    state.encoder.blocks[0].ssm[stream] = torch.nan
    with pytest.raises(FloatingPointError, match="the model's logits are not finite"):
        stepper.write([stream], 20)
    stepper.drop(stream)
    assert stepper.admit() == stream
    with pytest.raises(ValueError, match="has read nothing"):
        stepper.write([stream], 1)


def attends_within() -> HNetLM:
    """Global attention in the inner stage, where one of six bytes arrives."""
    config = small_config({"name": "pool", "stride": 6}).to_dict()
    return small_model(HNetConfig.from_dict(config | {"arch_layout": ["m1", ["t1"], "m1"]})).float()


def test_pages_that_no_chunk_needed_come_back() -> None:
    model = attends_within()
    stepper, exact = StaticStepper(model, 1, pool_bytes=2**20), PlainStepper(model, 1, pool_bytes=2**20)
    stream = stepper.admit()
    assert exact.admit() == stream
    most = 0
    for byte in (TEXT * 9)[:150]:
        stepper.step([stream], [byte])
        exact.step([stream], [byte])
        most = max(most, stepper.num_pages(stream) - exact.num_pages(stream))
    assert 0 < most <= 3  # two looks of 16 steps, and a page that is begun


def test_a_pool_that_seems_too_small_is_asked() -> None:
    """Pages for every byte would not do, but there are enough for the chunks that there are."""
    model = attends_within()
    page = PlainStepper(model, 1, pool_bytes=2**20).pool.page_bytes
    stepper = StaticStepper(model, 1, pool_bytes=3 * page)
    stream = stepper.admit()
    for byte in (TEXT * 9)[:240]:
        stepper.step([stream], [byte])
    with pytest.raises(OutOfPages):
        stepper.write([stream], 240)
    stepper.write([stream], 8)


def test_steppers_by_name() -> None:
    model = model_of()
    assert type(build_stepper(model, 1, pool_bytes=2**20, name="static")) is StaticStepper
    assert not isinstance(build_stepper(model, 1, pool_bytes=2**20), StaticStepper)
    with pytest.raises(ConfigError, match="there is no stepper 'graph'; there are cpu, cuda, static, plain"):
        build_stepper(model, 1, name="graph")  # pyright: ignore[reportArgumentType]  the point of the test
    with pytest.raises(ConfigError, match="CudaStepper does not support this model: it is on cpu, and a CUDA graph"):
        build_stepper(model, 1, name="cuda")


def hooked() -> HNetLM:
    model = model_of()
    model.network.get_submodule("encoder.norm").register_forward_hook(lambda *_: None)
    return model


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (hooked, "network.encoder.norm has hooks, or a forward of its own"),
        (lambda: model_of({"name": "oracle"}), "network.routing is a OracleChunker"),
    ],
)
def test_models_that_it_does_not_take(model: Any, reason: str) -> None:
    with pytest.raises(ConfigError, match=f"StaticStepper does not support this model: {reason}"):
        build_stepper(model(), 1, name="static")


def test_shapes_do_not_depend_on_who_takes_part() -> None:
    """Every operation of two steps has the same shapes, whoever takes part and whatever is a boundary."""

    class Shapes(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.seen: list[Any] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            result = func(*args, **(kwargs or {}))
            self.seen.append((str(func), tuple(result.shape) if isinstance(result, Tensor) else None))
            return result

    stepper = StaticStepper(model_of(), 3, pool_bytes=2**20)
    streams = [stepper.admit() for _ in range(3)]
    stepper.step(streams, [1, 2, 3])
    found = []
    for some in (streams, streams[1:2], streams[::2], streams):
        stepper._ask(some, [65 + stream for stream in some])
        with torch.inference_mode(), Shapes() as shapes:
            stepper._launch(tuple(stage.num_entries(streams) for stage in stepper.memory.stages))
        found.append(shapes.seen)
    assert all(each == found[0] for each in found)
