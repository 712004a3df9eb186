"""Each backend of the norm against the float64 reference, with and without a gate: output and all gradients."""

import pytest
import torch
from op_runs import backends
from torch import Tensor
from torch.autograd import gradcheck

from hnet_lm.ops.compiled.memory import MAX_WIDTH
from hnet_lm.ops.rms_norm import rms_norm

EPS = 1e-5

gated = pytest.mark.parametrize("gated", [False, True], ids=["plain", "gated"])
every_backend = pytest.mark.parametrize("backend", backends("rms_norm"))


def inputs(num_positions: int, gated: bool) -> list[Tensor]:
    """x, weight, gate; one position is almost nothing, and gates reach where exp leaves float32."""
    x, weight, gate = torch.randn(num_positions, 24), torch.randn(24), 3 * torch.randn(num_positions, 24)
    if num_positions > 2:
        x[1] *= 1e-6
        gate[2, :2] = torch.tensor([-120.0, 120.0])
    return [x, weight, gate] if gated else [x, weight]


def run(tensors: list[Tensor], backend: str, dtype: torch.dtype) -> list[Tensor]:
    leaves = [tensor.to(dtype).requires_grad_() for tensor in tensors]
    x, weight, *gate = leaves
    y = rms_norm(x, weight, EPS, gate[0] if gate else None, backend=backend)
    towards = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y)
    return [y, *torch.autograd.grad((y.double() * towards).sum(), leaves)]


@gated
@every_backend
@pytest.mark.parametrize("num_positions", [0, 1, 37])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_equals_the_reference(num_positions: int, gated: bool, backend: str, dtype: torch.dtype, atol: float) -> None:
    tensors = inputs(num_positions, gated)
    for actual, wanted in zip(run(tensors, backend, dtype), run(tensors, "reference", torch.float64), strict=True):
        scale = max(1.0, wanted.abs().max().item()) if wanted.numel() else 1.0
        torch.testing.assert_close(actual.double(), wanted, rtol=0, atol=atol * scale)


@every_backend
def test_it_is_computed_in_float32_and_has_the_weights_type(backend: str) -> None:
    x, weight, gate = inputs(37, gated=True)
    y = rms_norm(x, weight.bfloat16(), EPS, gate.bfloat16(), backend=backend)
    wanted = rms_norm(x.double(), weight.bfloat16().double(), EPS, gate.bfloat16().double(), backend="reference")
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, wanted.bfloat16())


@gated
def test_the_reference_numerically(gated: bool) -> None:
    leaves = [tensor.double().requires_grad_() for tensor in inputs(2, gated)]
    assert gradcheck(lambda x, weight, gate=None: rms_norm(x, weight, EPS, gate, backend="reference"), leaves)


@every_backend
def test_the_result_may_have_another_type(backend: str) -> None:
    x, weight, gate = inputs(37, gated=True)
    y = rms_norm(x, weight, EPS, gate, dtype=torch.bfloat16, backend=backend)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, rms_norm(x, weight, EPS, gate, backend="reference").bfloat16())


@gated
@every_backend
def test_parts_of_wider_rows_in_bfloat16(gated: bool, backend: str) -> None:
    """As a product under autocast leaves them; gradients have the type of what they are of."""
    row = torch.randn(37, 60).bfloat16().requires_grad_()
    weight = torch.randn(24).requires_grad_()
    x, gate = row[:, 3:27], row[:, 30:54] if gated else None
    y = rms_norm(x, weight, EPS, gate, dtype=torch.bfloat16, backend=backend)
    towards = torch.randn(37, 24).bfloat16()
    grads = torch.autograd.grad(y, (row, weight), towards)
    wide = row.detach().double().requires_grad_()
    exact = rms_norm(wide[:, 3:27], weight.double(), EPS, wide[:, 30:54] if gated else None, backend="reference")
    for actual, expected in zip(grads, torch.autograd.grad(exact, (wide, weight), towards.double()), strict=True):
        torch.testing.assert_close(actual.double(), expected.double(), rtol=2e-2, atol=2e-2)


@every_backend
def test_rows_wider_than_loops_have_room_for(backend: str) -> None:
    x, weight = torch.randn(2, MAX_WIDTH + 1), torch.randn(MAX_WIDTH + 1)
    if backend == "cpu":
        with pytest.raises(ValueError, match=f"the backend 'cpu' cannot do this: rows are wider than {MAX_WIDTH}"):
            rms_norm(x, weight, EPS, backend=backend)
        return
    wanted = rms_norm(x.double(), weight.double(), EPS, backend="reference").float()
    torch.testing.assert_close(rms_norm(x, weight, EPS, backend=backend), wanted)
    torch.testing.assert_close(rms_norm(x, weight, EPS), wanted)
