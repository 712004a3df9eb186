"""Each backend of each op against the float64 reference: outputs, all gradients, final state; ragged and extreme."""

from functools import cache

import pytest
import torch
from op_runs import leave_out_if_rare, require_backend, with_backends
from torch import Tensor

from hnet_lm.testing.op_backend import NUM_SLOTS, RAGGED, assert_same, ragged, run
from hnet_lm.testing.op_cases import CASES, OpCase, Tensors

STATES = ("no state", "a state each", "slots permuted")

pytestmark = [with_backends(CASES, except_for="reference"), pytest.mark.scaled]


@cache
def problem(case: OpCase, states: str) -> tuple[Tensors, Tensors | None]:
    torch.manual_seed(0)
    num_slots = {"no state": None, "a state each": len(RAGGED), "slots permuted": NUM_SLOTS}[states]
    return case.inputs(sum(RAGGED)), num_slots and case.new_state(num_slots)


@cache
def expected(case: OpCase, states: str, rounded: bool = False) -> Tensors:
    """The reference in float64, for inputs as they are or as bfloat16 autocast would hand them over."""
    inputs, state = problem(case, states)

    def into(key: str, value: Tensor) -> Tensor:
        return (as_under_autocast(case, key, value) if rounded else value).double()

    return run(case, "reference", inputs, ragged(states == "slots permuted"), state, into)


def as_under_autocast(case: OpCase, key: str, value: Tensor) -> Tensor:
    return value if key in case.wide or key == "state" else value.bfloat16()


@pytest.mark.parametrize("states", STATES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_equals_the_reference(case: OpCase, backend: str, states: str, dtype: torch.dtype) -> None:
    require_backend(case.name, backend)
    leave_out_if_rare(case, backend, dtype)
    inputs, state = problem(case, states)
    actual = run(case, backend, inputs, ragged(states == "slots permuted"), state, lambda _, value: value.to(dtype))
    assert_same(actual, expected(case, states), 1e-11 if dtype == torch.float64 else case.float32_atol)


@pytest.mark.parametrize("states", ["no state", "slots permuted"])
def test_under_bfloat16_autocast(case: OpCase, backend: str, states: str) -> None:
    """Two digits are what bfloat16 leaves of a gradient; the smoothing recurrence, all in float32, keeps its own."""
    require_backend(case.name, backend)
    leave_out_if_rare(case, backend, torch.bfloat16)
    inputs, state = problem(case, states)
    actual = run(
        case,
        backend,
        inputs,
        ragged(states == "slots permuted"),
        state,
        lambda key, value: as_under_autocast(case, key, value),
        autocast=True,
    )
    assert_same(actual, expected(case, states, rounded=True), 1e-5 if case.name == "ema_scan" else case.bfloat16_atol)


def test_float32_inputs_under_autocast(case: OpCase, backend: str) -> None:
    """A caller need not hand over bfloat16 because the context is one of autocast."""
    require_backend(case.name, backend)
    leave_out_if_rare(case, backend, torch.bfloat16)
    inputs, state = problem(case, "slots permuted")
    actual = run(case, backend, inputs, ragged(True), state, autocast=True)
    assert_same(actual, expected(case, "slots permuted"), 1e-5 if case.name == "ema_scan" else 1.5 * case.bfloat16_atol)
