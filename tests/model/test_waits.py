"""What the path of a GPU asks of the device: transfers to the host, launches, and what is kept for the backward pass.

Kernels are not run here but counted, and numbers that they would have written are whatever was in memory. What is
counted does not depend on them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton", reason="Triton is not installed")

from torch._library.custom_ops import OPDEFS

import hnet_lm.ops.ssd.triton as ssd_backend
from hnet_lm.config import HNetConfig
from hnet_lm.generation.stepper import StaticStepper
from hnet_lm.layout import parse_layout
from hnet_lm.model import HNetLM
from hnet_lm.model.block import Block
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.ops.kernels.blocks import block_table
from hnet_lm.ops.kernels.launch import recorded
from hnet_lm.sequences import Sequences

LENGTHS = [40, 0, 1, 59]
ATEN = torch.ops.aten
WAITS = {ATEN._local_scalar_dense, ATEN.nonzero, ATEN.masked_select, ATEN._unique2, ATEN.unique_dim}
READERS = {Tensor.tolist, Tensor.numpy, Tensor.cpu}
NO_LAUNCH = {
    "promote_types",
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
    "detach",
    "alias",
}


class Counter(TorchDispatchMode):
    """Operations that wait for the device, and those that launch something; those within our own ops too."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []
        self.launches: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func.namespace == "hnet_lm":
            with self:
                return OPDEFS[func._schema.name]._init_fn(*args, **kwargs)
        masks = [each for each in _flat(args) if isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8)]
        packet = func.overloadpacket
        if packet in WAITS or (packet in (ATEN.index, ATEN.index_put, ATEN.index_put_) and masks):
            self.waits.append(str(func))
        if packet is ATEN.repeat_interleave and kwargs.get("output_size") is None:
            self.waits.append(str(func))
        if not func.is_view and packet.__name__ not in NO_LAUNCH:
            self.launches.append(packet.__name__)
        return func(*args, **kwargs)


class Readers(TorchFunctionMode):
    """Methods that read a tensor without an operation."""

    def __init__(self) -> None:
        super().__init__()
        self.waits: list[str] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in READERS:
            self.waits.append(func.__name__)
        return func(*args, **(kwargs or {}))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list | tuple):
        for each in value:
            yield from _flat(each)
    else:
        yield value


def config(layout: list[Any], widths: list[int]) -> HNetConfig:
    num = len(widths)
    table = {
        "arch_layout": layout,
        "d_model": widths,
        "d_intermediate": [48] * num,
        "ssm_cfg": {"d_state": 8, "d_conv": 4, "expand": 2, "chunk_size": 64},
        "attn_cfg": {"num_heads": [2] * num, "rotary_emb_dim": [8] * num, "window_size": [-1] * num},
    }
    return HNetConfig.from_dict(table)


@contextmanager
def on_gpu() -> Iterator[list[Any]]:
    """As on a GPU, but for attention, which is torch's there, and for the boundaries, which have to be numbers."""
    with use_backend("triton"), use_backend(boundary_prob="eager"), recorded() as launches:
        yield launches


def waits(run: Callable[[], Any]) -> tuple[Any, list[str]]:
    with Counter() as counter, Readers() as readers:
        result = run()
    return result, counter.waits + readers.waits


over_stages = pytest.mark.parametrize(
    ("layout", "widths", "stages"),
    [(["m1T1"], [32], 0), (["m1", ["T1"], "m1"], [32, 48], 1), (["m1", ["T1", ["m1T1"], "m1"], "m1"], [32, 64, 96], 2)],
)


def model_of(layout: list[Any], widths: list[int]) -> HNetLM:
    model = HNetLM(config(layout, widths))
    for name, parameter in model.named_parameters():
        if "routing" in name:  # boundaries spread, so that inner stages have something to do
            nn.init.normal_(parameter)
    return model


@over_stages
def test_one_wait_per_stage_and_none_in_the_backward_pass(layout: list[Any], widths: list[int], stages: int) -> None:
    model = model_of(layout, widths)
    seqs = Sequences.from_lengths(LENGTHS)
    with on_gpu():
        x = model.embedding(torch.randint(256, (sum(LENGTHS),)))
        out, found = waits(lambda: model.network(x, seqs)[0])
        assert len(found) == stages, found
        _, found = waits(lambda: out.sum().backward())
        assert found == []


@over_stages
def test_no_wait_in_a_step_of_fixed_shapes(layout: list[Any], widths: list[int], stages: int) -> None:
    """Also where contexts go on into new pages."""
    stepper = StaticStepper(model_of(layout, widths), 3, pool_bytes=2**20)
    streams = [stepper.admit() for _ in range(3)]
    with on_gpu():
        stepper.step(streams, [1, 2, 3])  # layouts are made once
        for step in range(40):
            some = streams[step % 3 :]
            _, found = waits(lambda some=some: stepper.step(some, [65] * len(some)))
            assert found == []


@over_stages
def test_ids_that_a_stepper_chooses_are_copied_once_in_a_while(
    layout: list[Any], widths: list[int], stages: int
) -> None:
    stepper = StaticStepper(model_of(layout, widths), 3, pool_bytes=2**20)
    streams = [stepper.admit() for _ in range(3)]
    with use_backend("eager"):  # numbers must be real ones
        stepper.step(streams, [1, 2, 3])
        written, found = waits(lambda: stepper.write(streams, 32))
    assert found == ["tolist"] * 2
    assert [len(ids) for ids in written] == [32] * 3


def test_the_counter_counts() -> None:
    x = torch.arange(4)
    _, found = waits(lambda: (x[x > 1], x.tolist(), int(x.sum()), x.nonzero(), x.repeat_interleave(x)))
    assert len(found) == 5


def block_of(kind: str) -> tuple[Block, int]:
    """A block of the outermost stage of the published model, and its width."""
    published = HNetConfig.load("hnet_1stage_L")
    stage = published.stages[0] if kind == "m" else published.stages[1]
    return Block(parse_layout(f"{kind}1")[0], stage, published.mamba2), stage.d_model


def training_step(block: Block, width: int, num_positions: int) -> tuple[int, int]:
    """Launches of forward and backward together; bytes kept in between that are no weights."""
    x = torch.randn(num_positions, width, requires_grad=True)
    seqs = Sequences.from_lengths([num_positions])
    _ = seqs.positions, seqs.sequence_ids  # those of a stage, made once
    for size in (ssd_backend.SMALL_BLOCK_SIZE, ssd_backend.BLOCK_SIZE):
        block_table(seqs, size)
    block.zero_grad()
    kept: dict[int, int] = {}
    weights = {each.untyped_storage().data_ptr() for each in block.parameters()}

    def pack(each: Tensor) -> Tensor:
        storage = each.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return each

    gradient = torch.ones(num_positions, width)
    with on_gpu() as launches, Counter() as counter:
        with torch.autocast("cpu", torch.bfloat16), torch.autograd.graph.saved_tensors_hooks(pack, lambda each: each):
            y = block(x, seqs)[0]
        torch.autograd.backward(y, gradient)
    return len(launches) + len(counter.launches), sum(kept.values())


@pytest.mark.parametrize(("kind", "most_launches"), [("m", 40), ("t", 22), ("T", 41)])
def test_launches_of_a_block(kind: str, most_launches: int) -> None:
    """Forward and backward together, with the casts of autocast; `T` has an MLP."""
    block, width = block_of(kind)
    launches, _ = training_step(block, width, 64)
    assert launches <= most_launches


def test_activations_of_a_mamba2_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssd_backend, "FEW_POSITIONS", 0)  # blocks as in a long batch
    block, width = block_of("m")
    (_, few), (_, many) = (training_step(block, width, num) for num in (256, 512))
    assert (many - few) / 256 <= 12 * width * 2
