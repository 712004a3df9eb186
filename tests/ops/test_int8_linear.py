"""Each backend of the map with 8-bit weights against the float64 reference, for few positions and for many."""

import pytest
import torch
from op_cases import backends

from hnet_lm.ops import int8_linear
from hnet_lm.ops.int8_linear.numba import FEW

every_backend = pytest.mark.parametrize("backend", backends("int8_linear"))


def inputs(num_positions: int, d_in: int, d_out: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """x, weight with both extremes, scale."""
    weight = torch.randint(-128, 128, (d_out, d_in), dtype=torch.int8)
    weight[0, 0], weight[-1, -1] = -128, 127
    return torch.randn(num_positions, d_in), weight, torch.rand(d_out) / 127


@every_backend
@pytest.mark.parametrize("num_positions", [0, 1, 3, 4, 9, 40])
@pytest.mark.parametrize(("d_in", "d_out"), [(1, 1), (13, 3), (64, 32), (147, 70)])
@pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
def test_equals_the_reference(
    num_positions: int, d_in: int, d_out: int, backend: str, dtype: torch.dtype, atol: float
) -> None:
    x, weight, scale = inputs(num_positions, d_in, d_out)
    y = int8_linear(x.to(dtype), weight, scale, backend=backend)
    assert y.dtype == dtype
    wanted = int8_linear(x.to(dtype).double(), weight, scale, backend="reference")
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=atol * max(1, d_in / 32))


def test_the_reference_is_the_formula() -> None:
    x, weight, scale = (
        torch.tensor([[1.0, 2.0]]),
        torch.tensor([[3, -4], [5, 6]]).to(torch.int8),
        torch.tensor([0.5, 2]),
    )
    assert int8_linear(x, weight, scale, backend="reference").tolist() == [[-2.5, 34.0]]


@every_backend
def test_narrow_inputs_are_multiplied_in_float32(backend: str) -> None:
    x, weight, scale = inputs(3, 64, 32)
    y = int8_linear(x.bfloat16(), weight, scale, backend=backend)
    wanted = int8_linear(x.bfloat16().double(), weight, scale, backend="reference")
    torch.testing.assert_close(y, wanted.float(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_positions", [1, 5, FEW])
def test_several_threads_and_gaps_in_memory_change_nothing(num_positions: int) -> None:
    x, weight, scale = inputs(num_positions, 1024, 1030)
    wanted = int8_linear(x, weight, scale, backend="reference")
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        y = int8_linear(x.T.contiguous().T, weight.T.contiguous().T, scale.repeat_interleave(2)[::2], backend="numba")
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(y, wanted, rtol=0, atol=5e-4)


@every_backend
def test_a_gradient_is_refused(backend: str) -> None:
    x, weight, scale = inputs(2, 8, 4)
    with pytest.raises(RuntimeError, match="no gradients"):
        int8_linear(x.requires_grad_(), weight, scale, backend=backend)
    with torch.no_grad():
        assert not int8_linear(x, weight, scale, backend=backend).requires_grad
