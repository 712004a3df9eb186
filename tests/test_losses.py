"""The terms of the training loss against their definitions."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from hnet_lm.losses import next_byte_loss, ratio_loss, ratio_loss_of
from hnet_lm.model import Routing
from hnet_lm.sequences import Sequences


def routing(p: Tensor, valid: Tensor | None = None) -> Routing:
    return Routing(p, p > 0.5, Sequences.from_lengths([p.numel()]), valid)


def test_next_byte_loss_is_the_mean_negative_log_probability() -> None:
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    targets = torch.tensor([[0, 4, -100], [2, -100, 1]])
    picked = [-logits[b, t].log_softmax(-1)[targets[b, t]] for b in range(2) for t in range(3) if targets[b, t] != -100]
    torch.testing.assert_close(next_byte_loss(logits, targets), torch.stack(picked).mean())
    torch.testing.assert_close(next_byte_loss(logits, targets, "sum"), torch.stack(picked).sum())
    each = next_byte_loss(logits, targets, "none")
    torch.testing.assert_close(each[targets.flatten() != -100], torch.stack(picked))
    assert each[targets.flatten() == -100].eq(0).all()


def test_next_byte_loss_of_equal_logits_is_log_of_the_vocabulary() -> None:
    assert next_byte_loss(torch.zeros(4, 256), torch.arange(4)).item() == pytest.approx(math.log(256))


def test_next_byte_loss_is_computed_in_float32() -> None:
    logits = 20 * torch.randn(6, 256).bfloat16()
    loss = next_byte_loss(logits, torch.arange(6))
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, next_byte_loss(logits.float(), torch.arange(6)), rtol=0, atol=0)


@given(n=st.floats(1.1, 20.0), data=st.lists(st.floats(0, 1, width=32), min_size=1, max_size=20))
def test_ratio_loss_is_the_formula(n: float, data: list[float]) -> None:
    p = torch.tensor(data, dtype=torch.float64)
    f, g = sum(x > 0.5 for x in data) / len(data), sum(data) / len(data)
    expected = n / (n - 1) * ((n - 1) * f * g + (1 - f) * (1 - g))
    assert ratio_loss(routing(p), n).item() == pytest.approx(expected)


@pytest.mark.parametrize("n", [2.0, 3.0, 6.0])
def test_ratio_loss_is_one_at_the_target_and_minimal_there(n: float) -> None:
    at = torch.tensor(1 / n)
    assert ratio_loss_of(at, at, n).item() == pytest.approx(1)
    for other in (0.5 / n, min(1.0, 1.5 / n)):
        assert ratio_loss_of(torch.tensor(other), torch.tensor(other), n).item() > 1


@pytest.mark.parametrize(("fraction", "sign"), [(0.9, 1), (0.05, -1)])
def test_the_gradient_moves_the_fraction_towards_the_target(fraction: float, sign: int) -> None:
    """More boundaries than one in n pushes the probabilities down, fewer pushes them up."""
    p = torch.where(torch.arange(100) < 100 * fraction, 0.7, 0.3).requires_grad_()
    (grad,) = torch.autograd.grad(ratio_loss(routing(p), 5.0), p)
    assert (grad * sign > 0).all()


def test_the_boundary_fraction_has_no_gradient() -> None:
    p = torch.rand(50, dtype=torch.float64, requires_grad=True)
    f = (p > 0.5).double().mean()
    (grad,) = torch.autograd.grad(ratio_loss(routing(p), 4.0), p)
    expected = 4 / 3 * (3 * f - (1 - f)) / 50
    torch.testing.assert_close(grad, expected.expand(50))


def test_padding_does_not_count() -> None:
    p, valid = torch.rand(2, 6), torch.tensor([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]]).bool()
    torch.testing.assert_close(ratio_loss(routing(p, valid), 3.0), ratio_loss(routing(p[valid]), 3.0))


@pytest.mark.parametrize("n", [1.0, 0.5, -3.0])
def test_a_target_ratio_of_one_or_less_is_refused(n: float) -> None:
    with pytest.raises(ValueError, match=f"target_ratio must be above 1, got {n}"):
        ratio_loss(routing(torch.rand(3)), n)
