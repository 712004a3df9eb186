"""Sequences: how packed rows divide, and which slots of a state they own."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hnet_lm.sequences import Sequences

lengths_lists = st.lists(st.integers(0, 7), max_size=8)


@given(lengths=lengths_lists)
def test_says_of_every_row_whose_it_is_and_where(lengths: list[int]) -> None:
    seqs = Sequences.from_lengths(lengths)
    assert seqs.num_sequences == len(lengths)
    assert seqs.num_positions == sum(lengths)
    assert seqs.max_length == max(lengths, default=0)
    assert seqs.lengths.tolist() == seqs.host_lengths == lengths
    assert seqs.starts.tolist() == [sum(lengths[:i]) for i in range(len(lengths))]
    assert seqs.sequence_ids.tolist() == [i for i, n in enumerate(lengths) for _ in range(n)]
    assert seqs.positions.tolist() == [t for n in lengths for t in range(n)]
    assert seqs.is_equal == (len(set(lengths)) <= 1)


@given(lengths=lengths_lists)
def test_cumulative_lengths_and_a_tensor_of_lengths_say_the_same(lengths: list[int]) -> None:
    seqs = Sequences.from_lengths(torch.tensor(lengths, dtype=torch.int64))
    assert Sequences(seqs.cu_seqlens).host_lengths == lengths


def test_negative_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="lengths must be 0 or more, got -2"):
        Sequences.from_lengths([3, -2])


@given(lengths=lengths_lists, slotted=st.booleans())
def test_nonempty_only_keeps_rows_and_slots(lengths: list[int], slotted: bool) -> None:
    slots = torch.randperm(10)[: len(lengths)] if slotted else None
    active = Sequences.from_lengths(lengths, slots).nonempty_only()
    kept = [i for i, n in enumerate(lengths) if n]
    assert active.host_lengths == [lengths[i] for i in kept]
    owned = list(range(len(lengths))) if slots is None else slots.tolist()
    assert active.slots is None or active.slots.tolist() == [owned[i] for i in kept]
    assert active.slots is not None or len(kept) == len(lengths)


def test_without_slots_sequence_i_owns_slot_i() -> None:
    state, rows = torch.randn(3, 2), torch.randn(3, 2)
    seqs = Sequences.from_lengths([1, 0, 2])
    assert seqs.owned(state).equal(state)
    assert seqs.replaced(state, rows).equal(rows)


def test_with_slots_the_others_stay() -> None:
    state, rows = torch.randn(4, 2), torch.randn(2, 2)
    before = state.clone()
    seqs = Sequences.from_lengths([1, 2], torch.tensor([3, 1]))
    assert seqs.owned(state).equal(before[[3, 1]])
    after = seqs.replaced(state, rows)
    assert after[[3, 1]].equal(rows)
    assert after[[0, 2]].equal(before[[0, 2]])


def test_replaced_keeps_the_type_of_the_state_and_lets_gradients_through() -> None:
    seqs = Sequences.from_lengths([1], torch.tensor([1]))
    assert seqs.replaced(torch.zeros(2, 1), torch.ones(1, 1, dtype=torch.bfloat16)).dtype == torch.float32
    state, rows = torch.zeros(2, 1, requires_grad=True), torch.ones(1, 1, requires_grad=True)
    grads = torch.autograd.grad(seqs.replaced(state, rows).sum(), [state, rows])
    assert grads[0].flatten().tolist() == [1, 0]
    assert grads[1].flatten().tolist() == [1]


def test_a_state_of_another_size_needs_slots() -> None:
    with pytest.raises(ValueError, match="2 sequences but a state of 3 slots; name the slots they own"):
        Sequences.from_lengths([1, 1]).owned(torch.zeros(3, 1))


def test_a_memo_is_built_once() -> None:
    seqs, calls = Sequences.from_lengths([1]), []
    assert [seqs.memo("key", lambda: calls.append(1) or len(calls)) for _ in range(3)] == [1, 1, 1]
    assert seqs.memo("other", lambda: 5) == 5
    assert Sequences.from_lengths([1]).memo("key", lambda: 7) == 7
