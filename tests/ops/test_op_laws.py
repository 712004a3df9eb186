"""The laws on every op and backend, in float64: split, causal, empty; and slots that nobody owns."""

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_runs import require_backend, with_backends
from torch import Tensor

from hnet_lm.ops.attention import KVState
from hnet_lm.sequences import Sequences
from hnet_lm.state import tensors
from hnet_lm.testing.op_backend import NUM_SLOTS, RAGGED, SLOTS, ragged
from hnet_lm.testing.op_cases import CASES, OpCase, Tensors

ATOL = 1e-10

pytestmark = with_backends(CASES)


@pytest.fixture(autouse=True)
def _installed(case: OpCase, backend: str) -> None:
    require_backend(case.name, backend)


def double(named: Tensors) -> Tensors:
    return {key: value.double() for key, value in named.items()}


def copy(named: Tensors) -> Tensors:
    """A state that is passed is consumed, so each call gets its own."""
    return {key: value.clone() for key, value in named.items()}


def same(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=ATOL)


def same_state(case: OpCase, actual: object, expected: object) -> None:
    for value, wanted in zip(case.as_tensors(actual).values(), case.as_tensors(expected).values(), strict=True):
        torch.testing.assert_close(value, wanted, rtol=0, atol=ATOL)


def test_split_at_every_cut(case: OpCase, backend: str) -> None:
    """All cuts at once, as a ragged batch in which copy i of the sequence is cut after i positions."""
    length = 70  # crosses a block of 64
    cuts = range(length + 1)
    inputs, initial = double(case.inputs(length)), double(case.new_state(length + 1))
    all_rows = torch.arange(length).repeat(len(cuts))
    before = torch.cat([torch.arange(cut) for cut in cuts])
    after = torch.cat([torch.arange(cut, length) for cut in cuts])

    whole = Sequences.from_lengths([length] * len(cuts))
    y, final = case.apply(case.of_rows(inputs, all_rows), whole, case.as_state(copy(initial)), backend)
    y = y.unflatten(0, (len(cuts), length))

    state = case.as_state(copy(initial))
    first, state = case.apply(case.of_rows(inputs, before), Sequences.from_lengths(list(cuts)), state, backend)
    rest = Sequences.from_lengths([length - cut for cut in cuts])
    second, state = case.apply(case.of_rows(inputs, after), rest, state, backend)

    same(first, torch.cat([y[cut, :cut] for cut in cuts]))
    same(second, torch.cat([y[cut, cut:] for cut in cuts]))
    same_state(case, state, final)


@given(pieces=st.lists(st.lists(st.sampled_from([0, 1, 1, 2, 5, 17]), min_size=3, max_size=3), min_size=1, max_size=6))
def test_split_at_many_cuts_with_gradients(case: OpCase, backend: str, pieces: list[list[int]]) -> None:
    """Three sequences that go on by so many positions a call; gradients pass through every state in between."""
    lengths = [sum(parts) for parts in zip(*pieces, strict=True)]
    slots = torch.tensor([2, 0, 3])
    whole = Sequences.from_lengths(lengths, slots)
    inputs, initial = double(case.inputs(sum(lengths))), double(case.new_state(4))
    weights = torch.randn(sum(lengths), 1, dtype=torch.float64)

    def gradients(split: bool) -> tuple[Tensor, ...]:
        leaves = {key: value.clone().requires_grad_() for key, value in (inputs | initial).items()}
        named, carried = {key: leaves[key] for key in inputs}, {key: leaves[key] for key in initial}
        state = case.as_state(carried)
        if not split:
            y, state = case.apply(named, whole, state, backend)
        else:
            y = torch.zeros(0)
            parts, rows, done = [], [], [0, 0, 0]
            for piece in pieces:
                piece_rows = torch.cat([torch.arange(n) + whole.starts[i] + done[i] for i, n in enumerate(piece)])
                part, state = case.apply(
                    case.of_rows(named, piece_rows), Sequences.from_lengths(piece, slots), state, backend
                )
                done = [a + b for a, b in zip(done, piece, strict=True)]
                parts.append(part)
                rows.append(piece_rows)
            y = torch.cat(parts)[torch.cat(rows).argsort()]
        finals = [value for value in case.as_tensors(state).values() if value.is_floating_point()]
        total = (y.flatten(1) * weights).sum() + sum(value.square().sum() for value in finals)
        grads = torch.autograd.grad(total, list(leaves.values()), allow_unused=True, materialize_grads=True)
        return y.detach(), *(value.detach() for value in finals), *grads

    for actual, expected in zip(gradients(split=True), gradients(split=False), strict=True):
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=ATOL)


@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
def test_causal(case: OpCase, backend: str, with_state: bool) -> None:
    """What comes later changes nothing before it, and gets no gradient from it."""
    lengths, cut = [90, 40], [70, 3]
    seqs = Sequences.from_lengths(lengths)
    earlier = torch.cat([torch.arange(n) < c for n, c in zip(lengths, cut, strict=True)])
    inputs = double(case.inputs(sum(lengths)))
    initial = double(case.new_state(2))
    other = double(case.inputs(sum(lengths)))
    changed = inputs | {
        key: torch.where(earlier.view(-1, *[1] * (value.dim() - 1)), value, other[key])
        for key, value in case.of_rows(inputs, slice(None)).items()
        if key not in case.shared()
    }

    def outputs(inputs: Tensors) -> Tensor:
        state = case.as_state(copy(initial)) if with_state else None
        return case.apply(inputs, seqs, state, backend)[0]

    leaves = {key: value.clone().requires_grad_() for key, value in inputs.items()}
    y = outputs(leaves)
    same(outputs(changed)[earlier], y[earlier].detach())
    positional = [value for key, value in leaves.items() if key not in case.shared()]
    for grad in torch.autograd.grad(y[earlier].sum(), positional, allow_unused=True, materialize_grads=True):
        assert grad[~earlier].eq(0).all()


def test_empty_sequences_leave_their_state_bit_for_bit(case: OpCase, backend: str) -> None:
    """Whether some sequences are empty, all are, or there are none; in float32, as states are."""
    for lengths in ([0, 70, 0, 1], [0, 1, 0, 1], [0, 0, 0, 0]):
        inputs, initial = case.inputs(sum(lengths)), case.new_state(4)
        y, final = case.apply(inputs, Sequences.from_lengths(lengths), case.as_state(copy(initial)), backend)
        assert len(y) == sum(lengths)
        empty = torch.tensor([i for i, n in enumerate(lengths) if n == 0])
        for part, wanted in zip(parts(final), parts(case.as_state(initial)), strict=True):
            if isinstance(part, KVState) and isinstance(wanted, KVState):
                pairs = zip(tensors(part.select(empty)), tensors(wanted.select(empty)), strict=True)
                assert all(value.equal(before) for value, before in pairs)
            else:
                assert part[empty].equal(wanted[empty])


def parts(state: Any) -> list[Any]:
    """The tensors of a state, but KV states whole: what they say is not all that they hold."""
    if isinstance(state, tuple):
        return [part for each in state for part in parts(each)]
    return [state] if isinstance(state, KVState) else tensors(state)


@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
def test_no_sequences(case: OpCase, backend: str, with_state: bool) -> None:
    state = case.as_state(case.new_state(0)) if with_state else None
    y, state = case.apply(case.inputs(0), Sequences.from_lengths([]), state, backend)
    assert len(y) == 0
    assert (state is None) is not with_state


def test_nothing_is_seen_of_slots_that_nobody_owns(case: OpCase, backend: str) -> None:
    """Not even where they, and the state of an empty sequence, hold NaN; and they stay as they are."""
    inputs, state = double(case.inputs(sum(RAGGED))), double(case.new_state(NUM_SLOTS))
    busy = [slot for slot, length in zip(SLOTS, RAGGED, strict=True) if length]
    idle = [slot for slot in range(NUM_SLOTS) if slot not in busy]
    poisoned = copy(state)
    for value in poisoned.values():
        value[idle] = float("nan")
    y, _ = case.apply(inputs, ragged(True), case.as_state(state), backend)
    y_poisoned, after = case.apply(inputs, ragged(True), case.as_state(poisoned), backend)
    assert y_poisoned.equal(y)
    before = case.as_state(case.new_state(NUM_SLOTS))
    for part, unpoisoned in zip(parts(after), parts(before), strict=True):
        if isinstance(part, KVState):
            assert part.num_seen[idle].equal(unpoisoned.num_seen[idle])
            assert part.keys[idle][:, :1].isnan().all()
        else:
            assert part[idle].isnan().all() if part.is_floating_point() else part[idle].equal(unpoisoned[idle])


def test_a_state_of_the_wrong_size_is_refused(case: OpCase, backend: str) -> None:
    state = case.as_state(case.new_state(5))
    with pytest.raises(ValueError, match="3 sequences but a state of 5 slots; name the slots they own"):
        case.apply(case.inputs(3), Sequences.from_lengths([1, 1, 1]), state, backend)
