"""Each backend of the linear map against the float64 reference: float and rounded weights, few positions and many."""

import pytest
import torch
from op_cases import nearest_int8
from op_runs import backends, threads
from torch import Tensor

from hnet_lm.ops import LinearWeight, RoundedWeight, linear
from hnet_lm.ops.linear.numba import SOME

every_backend = pytest.mark.parametrize("backend", backends("linear"))
every_weight = pytest.mark.parametrize("kind", ["float", "int8", "bfloat16"])
every_type = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
every_number = pytest.mark.parametrize("num_positions", [0, 1, 3, 4, 9, 24, 25, 70])
every_size = pytest.mark.parametrize(("d_in", "d_out"), [(1, 1), (13, 3), (64, 32), (147, 70)])


def some_weight(d_in: int, d_out: int, kind: str, dtype: torch.dtype = torch.float32) -> LinearWeight:
    """Integers have both extremes."""
    if kind != "int8":
        weight = torch.randn(d_out, d_in) / 2
        return weight.to(dtype) if kind == "float" else RoundedWeight(weight.bfloat16(), None)
    integers = torch.randint(-128, 128, (d_out, d_in), dtype=torch.int8)
    integers[0, 0], integers[-1, -1] = -128, 127
    return RoundedWeight(integers, torch.rand(d_out).to(dtype) / 127)


def as_float64(weight: LinearWeight) -> Tensor:
    return weight.to_float(torch.float64) if isinstance(weight, RoundedWeight) else weight.double()


@every_backend
@every_weight
@every_number
@every_size
@every_type
def test_equals_the_reference(
    num_positions: int, d_in: int, d_out: int, kind: str, backend: str, dtype: torch.dtype, atol: float
) -> None:
    x, weight = torch.randn(num_positions, d_in).to(dtype), some_weight(d_in, d_out, kind, dtype)
    y = linear(x, weight, backend=backend)
    assert y.dtype == dtype
    wanted = linear(x.double(), as_float64(weight), backend="reference")
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=atol * max(1, d_in / 32))


def test_the_reference_is_the_formula() -> None:
    x, integers = torch.tensor([[1.0, 2.0]]), torch.tensor([[3, -4], [5, 6]])
    assert linear(x, integers.float(), backend="reference").tolist() == [[-5.0, 17.0]]
    weight = RoundedWeight(integers.to(torch.int8), torch.tensor([0.5, 2]))
    assert linear(x, weight, backend="reference").tolist() == [[-2.5, 34.0]]


def test_integers_as_floats() -> None:
    matrix = torch.tensor([[1.0, -0.5], [0.25, 0.0]])
    weight = nearest_int8(matrix)
    assert weight.to_float(torch.float64).equal(matrix.double())
    assert (weight.dtype, weight.device) == (matrix.dtype, matrix.device)


@every_backend
@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_rounded_weights_and_narrow_inputs_are_multiplied_in_float32(kind: str, backend: str) -> None:
    x, weight = torch.randn(3, 64).bfloat16(), some_weight(64, 32, kind)
    wanted = linear(x.double(), as_float64(weight), backend="reference")
    torch.testing.assert_close(linear(x, weight, backend=backend), wanted.float(), rtol=0, atol=1e-5)


@every_backend
@pytest.mark.parametrize("num_positions", [1, 40])
def test_bfloat16_throughout(num_positions: int, backend: str) -> None:
    x, weight = torch.randn(num_positions, 64).bfloat16(), some_weight(64, 32, "float", torch.bfloat16)
    y = linear(x, weight, backend=backend)
    assert y.dtype == torch.bfloat16
    wanted = linear(x.double(), as_float64(weight), backend="reference")
    torch.testing.assert_close(y.double(), wanted, rtol=2e-2, atol=2e-2)


@every_weight
@pytest.mark.parametrize("num_positions", [1, 5, SOME, SOME + 1])
def test_several_threads_and_gaps_in_memory_change_nothing(num_positions: int, kind: str) -> None:
    x, weight = torch.randn(num_positions, 1024), some_weight(1024, 1030, kind)
    wanted = linear(x.double(), as_float64(weight), backend="reference").float()
    for with_gaps in (False, True):
        if with_gaps:
            x, weight = x.T.contiguous().T, spread(weight)
        with threads(3):
            y = linear(x, weight, backend="numba")
        torch.testing.assert_close(y, wanted, rtol=0, atol=5e-4)


def spread(weight: LinearWeight) -> LinearWeight:
    """The same numbers, other than one behind the other."""
    if isinstance(weight, RoundedWeight):
        scale = weight.scale if weight.scale is None else weight.scale.repeat_interleave(2)[::2]
        return RoundedWeight(weight.numbers.T.contiguous().T, scale)
    return weight.T.contiguous().T


@every_backend
@every_number
@every_type
def test_gradients_of_float_weights(num_positions: int, backend: str, dtype: torch.dtype, atol: float) -> None:
    """Those of torch's own product; also where x or the weight is all that is watched."""
    x, weight = torch.randn(num_positions, 13, dtype=dtype), torch.randn(7, 13, dtype=dtype)
    towards = torch.randn(num_positions, 7, dtype=dtype)
    for watched in ((True, True), (True, False), (False, True)):
        leaves = [tensor.clone().requires_grad_(is_leaf) for tensor, is_leaf in zip((x, weight), watched, strict=True)]
        asked = [leaf for leaf in leaves if leaf.requires_grad]
        grads = torch.autograd.grad(linear(*leaves, backend=backend), asked, towards)
        wanted = torch.autograd.grad(torch.nn.functional.linear(*leaves), asked, towards)
        for actual, expected in zip(grads, wanted, strict=True):
            torch.testing.assert_close(actual, expected, rtol=0, atol=atol)


@every_backend
@pytest.mark.parametrize("kind", ["int8", "bfloat16"])
def test_a_gradient_through_rounded_weights_is_refused(kind: str, backend: str) -> None:
    x, weight = torch.randn(2, 8), some_weight(8, 4, kind)
    with pytest.raises(RuntimeError, match="no gradients"):
        linear(x.requires_grad_(), weight, backend=backend)
    with torch.no_grad():
        assert not linear(x, weight, backend=backend).requires_grad
    assert not linear(x.detach(), weight, backend=backend).requires_grad
