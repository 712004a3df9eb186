"""State: select, join, clone and detach act on the whole tree."""

from dataclasses import dataclass

import torch
from torch import Tensor

from hnet_lm.state import State, tensors


@dataclass
class Leaf(State):
    a: Tensor
    b: Tensor | None = None


@dataclass
class Tree(State):
    leaves: tuple[State, ...]
    root: Leaf
    also: Tensor


def tree(num_sequences: int) -> Tree:
    def draw(*shape: int) -> Tensor:
        return torch.randn(num_sequences, *shape)

    return Tree((Leaf(draw(2)), Leaf(draw(), draw(3, 1))), Leaf(draw(2, 2)), torch.arange(num_sequences))


def test_counts_sequences_and_bytes() -> None:
    state = tree(5)
    assert state.num_sequences == 5
    assert len(tensors(state)) == 5
    assert state.num_bytes == 5 * (4 * (2 + 1 + 3 + 4) + 8)


def test_select_takes_rows_of_every_tensor_in_any_order() -> None:
    state = tree(4)
    for indices in ([2, 0, 2], [], torch.tensor([3])):
        selected = state.select(indices)
        assert isinstance(selected, Tree)
        for actual, original in zip(tensors(selected), tensors(state), strict=True):
            assert actual.equal(original[torch.as_tensor(indices, dtype=torch.int64)])
    assert selected.leaves[0].b is None  # pyright: ignore[reportAttributeAccessIssue]  leaves of one kind


def test_select_and_clone_are_independent_of_the_original() -> None:
    state = tree(2)
    before = [tensor.clone() for tensor in tensors(state)]
    for other in (state.clone(), state.select([0, 1])):
        for tensor in tensors(other):
            tensor.zero_()
    assert all(tensor.equal(original) for tensor, original in zip(tensors(state), before, strict=True))


def test_join_undoes_select() -> None:
    state = tree(5)
    joined = Tree.join([state.select([0, 1]), state.select([]), state.select([2, 3, 4])])
    assert all(actual.equal(original) for actual, original in zip(tensors(joined), tensors(state), strict=True))


def test_detach_cuts_the_history_alone() -> None:
    weight = torch.ones(1, requires_grad=True)
    state = tree(2).map(lambda tensor: tensor * weight)
    assert all(tensor.requires_grad for tensor in tensors(state))
    detached = state.detach()
    for tensor, original in zip(tensors(detached), tensors(state), strict=True):
        assert not tensor.requires_grad
        assert tensor.equal(original)
