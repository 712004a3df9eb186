"""Moving rows: the values are those of indexing, the gradients its sums, in the same order every time."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_runs import threads
from torch import Tensor
from torch.autograd import gradcheck

from hnet_lm.ops.rows import gather_rows, repeat_rows, spread_rows


@given(counts=st.lists(st.integers(0, 5), max_size=8))
def test_repeated_rows_sum_their_gradients(counts: list[int]) -> None:
    x = torch.randn(len(counts), 3, dtype=torch.float64, requires_grad=True)
    rows = torch.repeat_interleave(torch.arange(len(counts)), torch.tensor(counts, dtype=torch.int64))
    assert repeat_rows(x, rows).equal(x[rows])
    with torch.no_grad():
        assert repeat_rows(x, rows).equal(x[rows])
    towards = torch.randn(len(rows), 3, dtype=torch.float64)
    (grad,) = torch.autograd.grad(repeat_rows(x, rows), x, towards)
    (wanted,) = torch.autograd.grad(x[rows], x, towards)
    torch.testing.assert_close(grad, wanted)


def test_gathered_and_spread_rows() -> None:
    x, rows = torch.randn(5, 2, dtype=torch.float64, requires_grad=True), torch.tensor([3, 0, 4])
    assert gather_rows(x, rows).equal(x[rows])
    assert spread_rows(x[:3], rows, 6)[rows].equal(x[:3])
    assert spread_rows(x[:3], rows, 6)[[1, 2, 5]].eq(0).all()
    assert gradcheck(lambda x: gather_rows(x, rows), [x])
    assert gradcheck(lambda x: spread_rows(x, torch.tensor([3, 0, 4, 1, 6]), 7), [x])


@pytest.mark.parametrize("num_threads", [1, 2])
def test_the_gradient_is_the_same_to_the_bit_however_often(num_threads: int) -> None:
    """More numbers than torch's accumulating index adds with one thread."""
    x = torch.randn(700, 128, requires_grad=True)
    rows, towards = torch.randint(700, (4096,)).sort().values, torch.randn(4096, 128)

    def gradient() -> Tensor:
        return torch.autograd.grad(repeat_rows(x, rows), x, towards)[0]

    with threads(num_threads):
        first = gradient()
        assert all(gradient().equal(first) for _ in range(20))
    with threads(1):
        assert gradient().equal(first)
