"""One position at a time, as in decoding: every backend's step equals the reference, in slots that come and go.

That the compiled steps were taken, and not the ops of many positions, is looked at.
"""

import importlib
from typing import Any

import pytest
import torch
from op_cases import OpCase, Tensors, boundary_prob_case, mamba2_case, residual_layers_case, self_attention_case
from op_runs import threads, with_backends
from torch import Tensor

from hnet_lm.ops import KVState, use_backend
from hnet_lm.ops.linear.numba import SOME
from hnet_lm.sequences import Sequences
from hnet_lm.state import tensors

NUM_SLOTS = 6
STEPS = (((1, 1, 1), (4, 0, 2)), ((1, 0, 1), (0, 5, 4)), ((0, 0, 0), (1, 2, 3)), ((0, 1, 1), (4, 2, 0)))
"""Lengths, and the slots the sequences own, of a few steps."""
MANY_SLOTS = 3 * SOME // 2

SMALL = (
    mamba2_case(),
    mamba2_case(n=3, width=2, normed=True),
    mamba2_case(width=1, is_int8=True),
    mamba2_case(h=3, p=64, n=16, d_model=6, normed=True, is_int8=True),
    self_attention_case(-1),
    self_attention_case(0, rotary=0, normed=True),
    self_attention_case(7, p=4, is_int8=True),
    self_attention_case(-1, h=3, p=64, normed=True, is_int8=True),
    residual_layers_case(-1),
    residual_layers_case(7, is_normed=True),
    boundary_prob_case(),
    boundary_prob_case(12, is_int8=True),
)
WIDE = (
    mamba2_case(h=6, p=64, d_model=2800),
    mamba2_case(h=6, p=64, d_model=2800, normed=True, is_int8=True),
    self_attention_case(-1, p=450, normed=True),
    self_attention_case(1, p=450, is_int8=True),
    boundary_prob_case(1460),
    boundary_prob_case(1460, is_int8=True),
)
"""With projections of many turns."""

COMPILED = {
    "mamba2": "run_calls",
    "self_attention": "run_calls",
    "residual_layers": "run_calls",
    "boundary_prob": "step",
}
"""What runs the compiled step of an op."""

every_type = pytest.mark.parametrize(("dtype", "atol"), [(torch.float64, 1e-11), (torch.float32, 2e-5)], ids=str)


@pytest.fixture
def steps(case: OpCase, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An entry for every compiled step that has run."""
    module, name = importlib.import_module(f"hnet_lm.ops.{case.name}.numba"), COMPILED[case.name]
    step, ran = getattr(module, name), []

    def noted(*arguments: Any) -> None:
        ran.append(case.name)
        step(*arguments)

    monkeypatch.setattr(module, name, noted)
    return ran


def few_rows() -> list[Sequences]:
    return [Sequences.from_lengths(lengths, torch.tensor(slots)) for lengths, slots in STEPS]


def many_rows() -> list[Sequences]:
    """All slots but one in an order of their own each step; a few of the sequences are empty."""
    lengths = [int(i % 8 > 0) for i in range(MANY_SLOTS - 1)]
    assert sum(lengths) > SOME
    return [Sequences.from_lengths(lengths, torch.randperm(MANY_SLOTS)[:-1]) for _ in range(3)]


def as_type(named: Tensors, dtype: torch.dtype) -> Tensors:
    return {key: value.to(dtype, copy=True) for key, value in named.items()}


def check(
    case: OpCase, backend: str, layouts: list[Sequences], num_slots: int, dtype: torch.dtype, atol: float
) -> None:
    """Outputs of step after step, and what the last state says."""
    inputs, initial = case.inputs(sum(seqs.num_positions for seqs in layouts)), case.new_state(num_slots)

    @torch.no_grad()
    def run(backend: str, dtype: torch.dtype) -> list[Tensor]:
        state, row, results = case.as_state(as_type(initial, dtype)), 0, []
        for seqs in layouts:
            rows = slice(row, row + seqs.num_positions)
            y, state = case.apply(as_type(case.of_rows(inputs, rows), dtype), seqs, state, backend)
            results.append(y)
            row += seqs.num_positions
        return [*results, *case.as_tensors(state).values()]

    for actual, wanted in zip(run(backend, dtype), run("reference", torch.float64), strict=True):
        assert actual.dtype == (dtype if wanted.is_floating_point() else wanted.dtype)
        torch.testing.assert_close(actual.double(), wanted.double(), rtol=0, atol=atol)


@every_type
@with_backends(SMALL, except_for="reference")
def test_few_rows(case: OpCase, dtype: torch.dtype, atol: float, backend: str, steps: list[str]) -> None:
    check(case, backend, few_rows(), NUM_SLOTS, dtype, atol)
    assert bool(steps) == (backend == "numba")


@every_type
@with_backends(SMALL, except_for="reference")
def test_many_rows(case: OpCase, dtype: torch.dtype, atol: float, backend: str, steps: list[str]) -> None:
    check(case, backend, many_rows(), MANY_SLOTS, dtype, atol)
    assert len(steps) == (3 if backend == "numba" else 0)


@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("case", WIDE, ids=str)
def test_wide_projections(case: OpCase, steps: list[str], num_threads: int) -> None:
    with threads(num_threads):
        check(case, "numba", [layout for layout in few_rows() if layout.max_length], NUM_SLOTS, torch.float32, 2e-5)
    assert len(steps) == 3


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_many_rows_on_several_threads(case: OpCase, steps: list[str]) -> None:
    with threads(3):
        check(case, "numba", many_rows(), MANY_SLOTS, torch.float32, 2e-5)
    assert len(steps) == 3


@pytest.mark.parametrize("case", SMALL, ids=str)
def test_every_sequence_owns_its_slot_where_none_is_named(case: OpCase, steps: list[str]) -> None:
    check(case, "numba", [Sequences.from_lengths([1, 0, 1]), Sequences.from_lengths([1, 1, 0])], 3, torch.float32, 2e-5)
    assert len(steps) == 2


@pytest.mark.parametrize("num_slots", [2, MANY_SLOTS])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_step_works_on_the_state_where_it_lies(case: OpCase, num_slots: int) -> None:
    """No copy of the state of many streams: the buffers returned are those passed, once there is room in them."""
    state, inputs = case.as_state(case.new_state(num_slots)), case.inputs(num_slots)
    seqs = Sequences.from_lengths([1] * num_slots, torch.arange(num_slots))
    with torch.no_grad():
        _, state = case.apply(inputs, seqs, state, "numba")
        before = [part.data_ptr() for part in tensors(state)]
        _, final = case.apply(inputs, seqs, state, "numba")
    assert [part.data_ptr() for part in tensors(final)] == before


@pytest.mark.parametrize("num_rows", [3, SOME + 4])
@pytest.mark.parametrize("case", SMALL, ids=str)
def test_a_step_sees_no_slot_of_others(case: OpCase, num_rows: int) -> None:
    """Not even where it holds NaN; and it stays as it is."""
    inputs, state = case.inputs(num_rows), case.new_state(2 * num_rows)
    mine = torch.arange(2 * num_rows) % 2 == 0
    poisoned = as_type(state, torch.float32)
    for value in poisoned.values():
        value[~mine] = float("nan")
    seqs = Sequences.from_lengths([1] * num_rows, mine.nonzero().squeeze(1))
    with torch.no_grad():
        y, _ = case.apply(inputs, seqs, case.as_state(state), "numba")
        y_poisoned, after = case.apply(inputs, seqs, case.as_state(poisoned), "numba")
    assert y_poisoned.equal(y)
    for value, before in zip(tensors(after), tensors(case.as_state(poisoned)), strict=True):
        if value.is_floating_point():
            assert value[~mine].flatten(1)[:, : before[0].numel()].isnan().all()
        else:
            assert value[~mine].equal(before[~mine])


@pytest.mark.parametrize(
    "case",
    [
        mamba2_case(normed=True),
        self_attention_case(-1, normed=True),
        self_attention_case(7),
        residual_layers_case(7, is_normed=True),
        boundary_prob_case(),
    ],
    ids=str,
)
def test_a_step_is_differentiated_whatever_single_tensor_is_watched(case: OpCase) -> None:
    """As where all weights but one are frozen: nothing that a loop does out of autograd's sight."""
    inputs, state = as_type(case.inputs(2), torch.float64), as_type(case.new_state(2), torch.float64)
    seqs = Sequences.from_lengths([1, 1])

    def gradient(watched: str, backend: str) -> Tensor:
        named = as_type(inputs | state, torch.float64)
        leaf = named[watched].requires_grad_()
        carried = case.as_state({key: named.pop(key) for key in state})
        y, final = case.apply(named, seqs, carried, backend)
        total = y.sum() + sum(part.square().sum() for part in case.as_tensors(final).values())
        return torch.autograd.grad(total, leaf)[0]

    for name in inputs | state:
        torch.testing.assert_close(gradient(name, "numba"), gradient(name, "reference"), rtol=0, atol=1e-11)


@pytest.mark.parametrize("case", [self_attention_case(window) for window in (-1, 0, 7)], ids=str)
def test_attention_from_nothing_over_the_steps_in_which_its_state_grows(case: OpCase) -> None:
    lengths, num_slots = 150, 2
    inputs = as_type(case.inputs(lengths * num_slots), torch.float64)
    h, p = case.new_state(1)["keys"].shape[2:]
    state = KVState.new(num_slots, h, p, torch.float64, torch.device("cpu"))
    rows = torch.arange(lengths * num_slots).view(num_slots, lengths)
    with torch.no_grad():
        wanted, _ = case.apply(inputs, Sequences.from_lengths([lengths] * num_slots), None, "reference")
        for t in range(lengths):
            seqs = Sequences.from_lengths([1] * num_slots)
            y, state = case.apply(case.of_rows(inputs, rows[:, t]), seqs, state, "numba")
            torch.testing.assert_close(y, wanted[rows[:, t]], rtol=0, atol=1e-11)
    assert state.num_seen.tolist() == [lengths] * num_slots


@pytest.mark.parametrize("part", ["mamba2", "self_attention", "gated_mlp", "rms_norm"])
def test_layers_leave_their_parts_to_the_backend_that_is_chosen_for_these(part: str) -> None:
    case = residual_layers_case(-1, is_normed=True)
    seqs, state = Sequences.from_lengths([1, 1]), case.as_state(case.new_state(2))
    with (
        torch.no_grad(),
        use_backend(**{part: "none such"}),
        pytest.raises(ValueError, match="has no backend 'none such'"),
    ):
        case.apply(case.inputs(2), seqs, state, "numba")
