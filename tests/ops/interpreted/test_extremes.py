"""Numbers at both ends of what is possible."""

import pytest
import torch

import hnet_lm.ops.ssd.triton as ssd_backend
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import assert_same, run
from hnet_lm.testing.op_cases import ssd_case


def test_ema_scan_forgets_exactly_where_p_is_one() -> None:
    x, p = torch.randn(50, 3), torch.full((50,), 0.3)
    p[[0, 20, 49]] = 1
    x[19] = 1e30
    z, _ = ema_scan(x, p.requires_grad_(), Sequences.from_lengths([50]), backend="triton")
    assert z[20].equal(x[20])
    assert z[49].equal(x[49])
    (grad,) = torch.autograd.grad(z[21:].sum(), p)
    assert grad.isfinite().all()
    assert grad[:20].eq(0).all()


@pytest.mark.parametrize(("low", "high"), [(50.0, 500.0), (1e-9, 1e-7)], ids=["all forgotten", "nothing forgotten"])
def test_ssd(low: float, high: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ssd_backend, "TILE", 16)
    case, lengths = ssd_case(low, high, h=1, p=4, n=4), (40, 1)
    inputs, state, seqs = case.inputs(41), case.new_state(2), Sequences.from_lengths(lengths)
    actual = run(case, "triton", inputs, seqs, state)
    assert all(value.isfinite().all() for value in actual.values())
    assert_same(actual, run(case, "reference", inputs, seqs, state, lambda _, value: value.double()), 5e-5)


def test_ssd_remembers_after_it_forgot(monkeypatch: pytest.MonkeyPatch) -> None:
    """A position that forgets everything takes few digits of its own tile, and none of those behind."""
    monkeypatch.setattr(ssd_backend, "TILE", 16)
    case = ssd_case(h=1, p=4, n=4)
    inputs = case.inputs(100)
    inputs["dt"] = torch.empty(100, 1).uniform_(1e-3, 1e-2)
    inputs["dt"][::40] = 20.0
    seqs = Sequences.from_lengths([100])
    actual = run(case, "triton", inputs, seqs, None)
    assert_same(actual, run(case, "reference", inputs, seqs, None, lambda _, value: value.double()), 1e-4)


def test_boundary_prob_of_a_vector_of_zeros_is_a_half() -> None:
    q, k = torch.zeros(2, 5), torch.ones(2, 5)
    p, *_ = boundary_prob(q, k.requires_grad_(), Sequences.from_lengths([2]), backend="triton")
    assert p.tolist() == [1, 0.5]
    (grad,) = torch.autograd.grad(p.sum(), k)
    assert grad.isfinite().all()
