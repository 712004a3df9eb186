"""State: what a model remembers of its sequences between two calls.

A state is a tree of dataclasses whose tensors have one row per sequence. `select`, `join` and `clone` act on the whole
tree, so that sequences can leave, be copied and come together between steps.

A state is used once. The call it is passed to consumes it: its memory may be reused for the state that the call
returns. Using it again is a ValueError; whoever wants to continue twice passes `state.clone()` first.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from operator import index
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

Sizes = dict[str, tuple[int, ...]]
"""Of each tensor in a state tree, by its path: the shape of one row."""

S = TypeVar("S", bound="State")


@dataclass
class State:
    """Base of every state. Fields are tensors of shape `(s, ...)`, states, tuples of those, or None."""

    _is_consumed = False

    @property
    def num_sequences(self) -> int:
        """Raises ValueError where the tensors do not agree, as no state that a model makes."""
        rows = {tuple(tensor.shape[:1]) for tensor in self.per_sequence()}
        if len(rows) != 1 or () in rows:
            raise ValueError(f"the tensors of this state are not of one number of sequences, but of {sorted(rows)}")
        return rows.pop()[0]

    def per_sequence(self) -> list[Tensor]:
        """Every tensor of the tree that has one row per sequence."""
        return [tensor for f in fields(self) for tensor in _per_sequence(getattr(self, f.name))]

    @property
    def num_bytes(self) -> int:
        """Bytes that the tensors of this state occupy."""
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors(self))

    def consume(self) -> Self:
        """The same state as a new object, which takes over; this one is used up. Raises ValueError if it already is."""
        self._require_unused()
        self._is_consumed = True
        return type(self)(**{f.name: getattr(self, f.name) for f in fields(self)})

    def select(self, indices: Sequence[int] | Tensor) -> Self:
        """The state of the named sequences, in that order; an index may come twice. Independent of the original.

        Raises ValueError for indices that are not whole numbers within 0 .. s-1.
        """
        checked = _checked_indices(indices, self.num_sequences)
        return self.map(lambda tensor: tensor[checked.to(tensor.device)])

    def clone(self) -> Self:
        return self.map(torch.clone)

    def detach(self) -> Self:
        """The same values without their history: for truncated backpropagation through time."""
        return self.map(torch.detach)

    def map(self, function: Callable[[Tensor], Tensor]) -> Self:
        self._require_unused()
        return type(self)(**{f.name: _map(getattr(self, f.name), function) for f in fields(self)})

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        """One state with the sequences of all, in order. Raises ValueError unless all are states of one model."""
        if not states:
            raise ValueError("join takes one state or more")
        for state in states:
            if not isinstance(state, cls):
                raise TypeError(f"join takes states of type {cls.__name__}, not {type(state).__name__}")
            state._require_unused()
            if any(tensor.is_nested or tensor.layout != torch.strided for tensor in tensors(state)):
                raise ValueError("join takes states of dense tensors")
            state.require_sizes(states[0].sizes())
            _ = state.num_sequences  # its tensors must agree
        if len({tuple((tensor.dtype, tensor.device) for tensor in tensors(state)) for state in states}) > 1:
            raise ValueError("join takes states whose tensors are of the same types and on the same device")
        return cls(**{f.name: _join([getattr(state, f.name) for state in states]) for f in fields(cls)})

    def sizes(self) -> Sizes:
        """What has to agree between a state and the model it is passed to."""
        return {path: size for f in fields(self) for path, size in _sizes(f.name, getattr(self, f.name))}

    def require_sizes(self, expected: Sizes) -> None:
        """Raises ValueError if this is the state of another model, naming the first difference."""
        actual = self.sizes()
        for path in sorted(actual.keys() | expected.keys()):
            if actual.get(path) != expected.get(path):
                raise ValueError(
                    f"the state belongs to another model: {path} has {_named(actual.get(path))} per sequence, "
                    f"this model's has {_named(expected.get(path))}"
                )

    def _require_unused(self) -> None:
        if self._is_consumed:
            raise ValueError(
                "this state was consumed by an earlier call: continue with the state that call returned, "
                "or pass state.clone() to the first call to keep this one"
            )


def consumed(state: Any, kind: type[S]) -> S | None:
    """The state that a module of this kind of state takes over; None without one.

    Raises TypeError for a state of another kind, ValueError for one that was used before.
    """
    if state is None:
        return None
    if not isinstance(state, kind):
        raise TypeError(f"the state must be a {kind.__name__}, not {type(state).__name__}")
    return state.consume()


def tensors(node: Any) -> list[Tensor]:
    """Every tensor of a state tree."""
    if isinstance(node, Tensor):
        return [node]
    if isinstance(node, State):
        return [t for f in fields(node) for t in tensors(getattr(node, f.name))]
    if isinstance(node, tuple):
        return [t for child in node for t in tensors(child)]
    return []


def _checked_indices(indices: Sequence[int] | Tensor, num_sequences: int) -> Tensor:
    if isinstance(indices, Tensor):
        if indices.is_nested or indices.layout != torch.strided or indices.device.type == "meta" or indices.dim() != 1:
            raise ValueError("select takes a dense vector of indices")
        indices = indices.tolist()
    given = list(indices)
    if any(isinstance(i, bool | float | complex) for i in given):
        raise ValueError(f"select takes whole numbers, got {given}; of a mask take mask.nonzero()[:, 0]")
    if not all(0 <= index(i) < num_sequences for i in given):
        raise ValueError(f"select: {given} goes beyond the {num_sequences} sequences of this state")
    return torch.tensor(given, dtype=torch.int64)


def _per_sequence(node: Any) -> list[Tensor]:
    if isinstance(node, State):
        return node.per_sequence()
    if isinstance(node, tuple):
        return [tensor for child in node for tensor in _per_sequence(child)]
    return [node] if isinstance(node, Tensor) else []


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


def _sizes(path: str, node: Any) -> Iterator[tuple[str, tuple[int, ...]]]:
    if isinstance(node, Tensor):
        yield path, tuple(node.shape[1:])
    elif isinstance(node, State):
        yield from ((f"{path}.{inner}", size) for inner, size in node.sizes().items())
    elif isinstance(node, tuple):
        for i, child in enumerate(node):
            yield from _sizes(f"{path}.{i}", child)


def _named(size: tuple[int, ...] | None) -> str:
    return "nothing" if size is None else "one number" if size == () else f"{size} numbers"
