"""The inside of a Mamba-2 mixer as one op: each backend against the float64 reference and against its parts."""

import inspect

import pytest
import torch
from op_runs import backends, require_backend
from torch import Tensor

from hnet_lm.config import Mamba2Config
from hnet_lm.model.layers import CausalConv, RMSNorm
from hnet_lm.model.mixers import Mamba2
from hnet_lm.ops import dispatch
from hnet_lm.ops.mamba2 import mamba2
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import FLOAT64_ATOL, assert_same, run
from hnet_lm.testing.op_cases import Tensors, mamba2_case

CASE = mamba2_case()
LENGTHS = (3, 0, 70, 1)


def inputs() -> Tensors:
    torch.manual_seed(0)
    return CASE.inputs(sum(LENGTHS))


def results(backend: str, dtype: torch.dtype) -> Tensors:
    sequences = Sequences.from_lengths(LENGTHS)
    return run(CASE, backend, inputs(), sequences, None, lambda _, value: value.to(dtype))


@pytest.mark.parametrize("backend", [name for name in backends("mamba2") if name != "reference"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_reference(backend: str, dtype: torch.dtype) -> None:
    require_backend("mamba2", backend)
    atol = FLOAT64_ATOL if dtype == torch.float64 else CASE.float32_atol
    assert_same(results(backend, dtype), results("reference", torch.float64), atol)


def mixer() -> Mamba2:
    mixer = Mamba2(64, Mamba2Config(d_state=8))
    for parameter in mixer.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return mixer


class DoubledNorm(RMSNorm):
    def forward(self, x: Tensor, gate: Tensor | None = None) -> Tensor:
        return 2 * super().forward(x, gate)


class DoubledConv(CausalConv):
    def forward(self, x: Tensor, seqs: Sequences, state: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        y, state = super().forward(x, seqs, state)
        return 2 * y, state


@pytest.mark.parametrize("name", ["norm", "conv"])
@torch.no_grad()
def test_what_takes_the_place_of_a_part_is_called(name: str) -> None:
    """By a subclass, a hook and a forward of its own, in the same way."""
    part, x, seqs = mixer(), torch.randn(9, 64), Sequences.from_lengths([4, 5])
    before, inner = part(x, seqs)[0], part.get_submodule(name)
    doubled = DoubledNorm(128) if name == "norm" else DoubledConv(144, 4)
    doubled.load_state_dict(inner.state_dict())
    part.set_submodule(name, doubled)
    expected = part(x, seqs)[0]
    assert not torch.allclose(expected, before, atol=1e-2)
    part.set_submodule(name, inner)
    assert part(x, seqs)[0].equal(before)
    inner.forward = doubled.forward
    assert part(x, seqs)[0].equal(expected)
    del inner.forward
    with inner.register_forward_hook(lambda _, __, y: 2 * y if isinstance(y, Tensor) else (2 * y[0], y[1])):
        assert part(x, seqs)[0].equal(expected)
    assert part(x, seqs)[0].equal(before)


@pytest.mark.parametrize(
    ("choices", "chosen"),
    [
        ([], "eager"),
        ([{"ssd": "reference"}], "eager"),
        ([{"*": "reference"}], "reference"),
        ([{"mamba2": "reference"}, {"ssd": "eager"}], "eager"),
        ([{"ssd": "eager"}, {"mamba2": "reference"}], "reference"),
        ([{"swiglu": "reference"}], "eager"),
    ],
)
def test_a_choice_for_a_part_holds(choices: list[dict[str, str]], chosen: str) -> None:
    """The innermost choice counts, for the op or for a part of it."""
    op, tensors = dispatch.Op("hnet_lm.ops.mamba2", parts=("causal_conv", "ssd", "rms_norm")), inputs()
    arguments = *tensors.values(), 1e-5, Sequences.from_lengths(LENGTHS), torch.float32
    for choice in choices:
        dispatch._choices.add(choice)
    try:
        assert op.choose(None, torch.device("cpu"), *arguments).__name__.rpartition(".")[2] == chosen
    finally:
        for choice in choices:
            dispatch._choices.remove(choice)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"D": torch.ones(3)}, r"128 numbers must be of 3 heads of one width"),
        ({"zxbcdt": torch.ones(74, 9)}, r"zxbcdt is \(74, 9\), but this call needs \(74, 274\)"),
        ({"dt_bias": torch.ones(1)}, r"dt_bias is \(1,\), but this call needs \(2,\)"),
        ({"norm_weight": torch.ones(128).double()}, "float64 does not mix"),
        ({"conv_bias": torch.ones(144).double()}, "must be of one type"),
        ({"A_log": torch.ones(2).long()}, "A_log must be of a floating-point type"),
        ({"zxbcdt": torch.ones(73, 274)}, "the sequences have 74 positions"),
        ({"eps": -1.0}, "eps must be a finite number"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Tensor], message: str) -> None:
    arguments = inputs() | {"eps": 1e-5} | change
    unchecked = inspect.unwrap(mamba2)  # without the checks of shapes that only tests have
    with pytest.raises(ValueError, match=message):
        unchecked(**arguments, seqs=Sequences.from_lengths(LENGTHS))  # pyright: ignore[reportArgumentType]  eps among tensors
