"""Each backend of the gated MLP against the float64 reference: output and all gradients, few positions and many."""

import pytest
import torch
from op_cases import Tensors, nearest_int8
from op_runs import assert_same, backends, threads
from torch import Tensor
from torch.autograd import gradcheck

from hnet_lm.ops import PreNorm, gated_mlp
from hnet_lm.ops.gated_mlp import numba as compiled
from hnet_lm.ops.linear.numba import SOME

EPS = 1e-5
WIDE = (900, 1200)
"""d and f whose products are worth several threads, each."""

every_backend = pytest.mark.parametrize("backend", backends("gated_mlp"))
every_type = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str)
normed = pytest.mark.parametrize("normed", [False, True], ids=["plain", "normed"])
every_number = pytest.mark.parametrize("num_positions", [0, 1, 3, SOME, SOME + 1, 90])


def inputs(num_positions: int, normed: bool, d: int = 6, f: int = 10) -> Tensors:
    named = {
        "x": torch.randn(num_positions, d),
        "fc1": torch.randn(2 * f, d) / d**0.5,
        "fc2": torch.randn(d, f) / f**0.5,
    }
    return named | ({"norm": torch.empty(d).uniform_(0.5, 1.5)} if normed else {})


def apply(named: Tensors, backend: str, is_int8: bool = False) -> Tensor:
    fc1, fc2 = (nearest_int8(named[key]) if is_int8 else named[key] for key in ("fc1", "fc2"))
    pre_norm = PreNorm(named["norm"], EPS) if "norm" in named else None
    return gated_mlp(named["x"], fc1, fc2, pre_norm=pre_norm, backend=backend)


def as_type(named: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: value.to(dtype) for key, value in named.items()}


def with_gradients(named: Tensors, backend: str, watched: frozenset[str] | None = None) -> Tensors:
    """The output, and the gradient to every input or to those that are watched."""
    leaves = {key: value.clone().requires_grad_(watched is None or key in watched) for key, value in named.items()}
    y = apply(leaves, backend)
    towards = torch.linspace(-1, 1, y.numel(), dtype=torch.float64).view_as(y).to(y.dtype)
    asked = {key: leaf for key, leaf in leaves.items() if leaf.requires_grad}
    grads = torch.autograd.grad(y, list(asked.values()), towards)
    return {"y": y.detach(), **{f"grad {key}": grad for key, grad in zip(asked, grads, strict=True)}}


@every_backend
@normed
@every_number
@every_type
def test_output_and_gradients_equal_the_reference(
    num_positions: int, normed: bool, backend: str, dtype: torch.dtype, atol: float
) -> None:
    named = inputs(num_positions, normed)
    actual = with_gradients(as_type(named, dtype), backend)
    assert all(value.dtype == dtype for value in actual.values())
    assert_same(actual, with_gradients(as_type(named, torch.float64), "reference"), atol)


@every_backend
@normed
@pytest.mark.parametrize("is_int8", [False, True], ids=["float weights", "int8"])
@every_number
@every_type
@torch.no_grad()
def test_without_gradients(
    num_positions: int, is_int8: bool, normed: bool, backend: str, dtype: torch.dtype, atol: float
) -> None:
    named = inputs(num_positions, normed)
    y = apply(as_type(named, dtype), backend, is_int8)
    assert y.dtype == dtype
    wanted = apply(as_type(named, torch.float64), "reference", is_int8)
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=atol)


@normed
@pytest.mark.parametrize("is_int8", [False, True], ids=["float weights", "int8"])
@pytest.mark.parametrize(("sizes", "num_positions"), [((6, 10), 3), ((6, 10), SOME + 1), (WIDE, 2)], ids=str)
@torch.no_grad()
def test_all_in_one_loop_where_positions_are_few(
    sizes: tuple[int, int], num_positions: int, is_int8: bool, normed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And products of their own where they are many."""
    ran: list[bool] = []
    run_calls = compiled.run_calls
    monkeypatch.setattr(compiled, "run_calls", lambda calls: ran.append(True) or run_calls(calls))
    named = inputs(num_positions, normed, *sizes)
    wanted = apply(as_type(named, torch.float64), "reference", is_int8)
    with threads(3):
        y = apply(named, "numba", is_int8)
    torch.testing.assert_close(y.double(), wanted, rtol=0, atol=1e-5)
    assert ran == ([True] if num_positions <= SOME else [])


@normed
def test_it_is_differentiated_whatever_single_tensor_is_watched(normed: bool) -> None:
    """As where all weights but one are frozen: nothing that a loop does out of autograd's sight."""
    named = as_type(inputs(2, normed), torch.float64)
    for name in named:
        watched = frozenset({name})
        assert_same(with_gradients(named, "numba", watched), with_gradients(named, "reference", watched), 1e-12)


@pytest.mark.parametrize("backend", [name for name in backends("gated_mlp") if name != "reference"])
@pytest.mark.parametrize("num_positions", [2, 90])
def test_under_bfloat16_autocast(num_positions: int, backend: str) -> None:
    named = {key: value.bfloat16().float() for key, value in inputs(num_positions, normed=True).items()}
    with torch.autocast("cpu", torch.bfloat16):
        actual = with_gradients(named, backend)
    wanted = with_gradients(as_type(named, torch.float64), "reference")
    assert_same(actual | {"y": actual["y"].float()}, wanted, 2e-2)


@every_backend
def test_gates_reach_where_exp_leaves_float32(backend: str) -> None:
    named = inputs(4, normed=False)
    named["x"] *= 500
    actual, wanted = with_gradients(named, backend), with_gradients(as_type(named, torch.float64), "reference")
    assert all(value.isfinite().all() for value in actual.values())
    assert_same(actual, wanted, 1e-5)


@normed
def test_the_reference_numerically(normed: bool) -> None:
    named = as_type(inputs(2, normed, d=2, f=3), torch.float64)
    leaves = [value.requires_grad_() for value in named.values()]
    assert gradcheck(lambda *leaves: apply(dict(zip(named, leaves, strict=True)), "reference"), leaves)
