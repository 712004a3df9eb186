"""State: what a model remembers of its sequences between two calls.

A state is a tree of dataclasses whose tensors have one row a sequence. `select`, `join` and `clone` act on the whole
tree, so that sequences can leave, be copied and come together between steps (continuous batching).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass
class State:
    """Base of every state. Fields are tensors of shape `(s, ...)`, states, tuples of those, or None."""

    @property
    def num_sequences(self) -> int:
        return next(tensor.shape[0] for tensor in tensors(self))

    @property
    def num_bytes(self) -> int:
        """Bytes that the tensors of this state occupy."""
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors(self))

    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """The state of the named sequences, in that order; an index may come twice. Independent of the original."""
        return self.map(lambda tensor: tensor[torch.as_tensor(indices, dtype=torch.int64, device=tensor.device)])

    def clone(self) -> Self:
        return self.map(torch.clone)

    def detach(self) -> Self:
        """The same values without their history: for truncated backpropagation through time."""
        return self.map(torch.detach)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """One state with the sequences of all, in order."""
        return cls(**{f.name: _join([getattr(state, f.name) for state in states]) for f in fields(cls)})


def tensors(node: Any) -> list[Tensor]:
    """Every tensor of a state tree."""
    if isinstance(node, Tensor):
        return [node]
    if isinstance(node, State):
        return [t for f in fields(node) for t in tensors(getattr(node, f.name))]
    if isinstance(node, tuple):
        return [t for child in node for t in tensors(child)]
    return []


def _map(node: Any, function: Callable[[Tensor], Tensor]) -> Any:
    if isinstance(node, Tensor):
        return function(node)
    if isinstance(node, State):
        return node.map(function)
    if isinstance(node, tuple):
        return tuple(_map(child, function) for child in node)
    return node


def _join(nodes: Sequence[Any]) -> Any:
    first = nodes[0]
    if isinstance(first, Tensor):
        return torch.cat(list(nodes))
    if isinstance(first, State):
        return type(first).join(nodes)
    if isinstance(first, tuple):
        return tuple(_join(children) for children in zip(*nodes, strict=True))
    return first
