"""Packed sequences: how the `t` rows of an activation divide into sequences.

Every activation in this package is `(t, d)`: all sequences one behind the other, without padding. `Sequences` carries
the cumulative lengths, and which slot of the carried state each sequence owns. A sequence may have length 0; its state
then does not change. Ragged batches, packed documents, prefill in pieces and batched decoding are all this one thing.

What is given is checked and normalised once, here: int64, contiguous, within range, on one device. Nothing behind it
has to.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate, pairwise
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Cumulative lengths of packed sequences, and the state slot of each (`None`: sequence i owns slot i).

    Raises ValueError for lengths that do not begin at 0 or that fall, and for slots that are negative, that come twice
    or that are not one per sequence.
    """

    cu_seqlens: Int[Tensor, " b_plus_1"]
    slots: Int[Tensor, " b"] | None = None
    input_ids: Int[Tensor, " t"] | None = None
    """The bytes at the positions, for chunkers that look at them; the model sets them for its outermost stage."""
    boundaries: Bool[Tensor, " t"] | None = None
    """Where chunks start, for an oracle chunker."""
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)
    _is_checked: bool = field(default=False, repr=False)

    def __post_init__(self) -> None:
        if not self._is_checked:
            object.__setattr__(self, "cu_seqlens", _whole_numbers("cu_seqlens", self.cu_seqlens))
            self._check_lengths()
            if self.slots is not None:
                slots = _whole_numbers("slots", self.slots).to(self.device)
                object.__setattr__(self, "slots", slots)
                self._check_slots(slots.tolist())
            object.__setattr__(self, "_is_checked", True)

    def _check_lengths(self) -> None:
        ends = self.cu_seqlens.tolist()
        if not ends or ends[0] != 0 or any(b < a for a, b in pairwise(ends)):
            raise ValueError(f"cu_seqlens must begin with 0 and never fall, got {_shortened(ends)}")

    def _check_slots(self, slots: list[int]) -> None:
        if len(slots) != self.num_sequences:
            raise ValueError(f"{len(slots)} slots are given for {self.num_sequences} sequences")
        if min(slots, default=0) < 0 or len(set(slots)) < len(slots):
            raise ValueError(f"slots must be 0 or more, each owned by one sequence, got {_shortened(slots)}")

    @classmethod
    def from_lengths(
        cls, lengths: Sequence[int] | Int[Tensor, " b"], slots: Int[Tensor, " b"] | None = None, device: Any = None
    ) -> "Sequences":
        """From the length of each sequence, in positions. Raises ValueError for a negative length."""
        host = [int(n) for n in lengths]
        if any(n < 0 for n in host):
            raise ValueError(f"sequence lengths must be 0 or more, got {min(host)}")
        if device is None and isinstance(lengths, Tensor):
            device = lengths.device
        cu_seqlens = torch.tensor([0, *accumulate(host)], dtype=torch.int64, device=device)
        sequences = cls(cu_seqlens, slots, _is_checked=slots is None)
        sequences.__dict__["host_lengths"] = host
        return sequences

    def inner(self, cu_seqlens: Int[Tensor, " b_plus_1"], lengths: list[int] | None = None) -> "Sequences":
        """The sequences that these become in an inner stage: other lengths, the same slots."""
        sequences = Sequences(cu_seqlens, self.slots, _is_checked=True)
        if lengths is not None:
            sequences.__dict__["host_lengths"] = lengths
        return sequences

    @cached_property
    def host_lengths(self) -> list[int]:
        """Lengths as Python integers. On an accelerator the first use waits for the device."""
        return self.lengths.tolist()

    @cached_property
    def lengths(self) -> Int[Tensor, " b"]:
        return self.cu_seqlens.diff()

    @property
    def num_sequences(self) -> int:
        return self.cu_seqlens.shape[0] - 1

    @cached_property
    def num_positions(self) -> int:
        return sum(self.host_lengths)

    @cached_property
    def max_length(self) -> int:
        return max(self.host_lengths, default=0)

    @property
    def starts(self) -> Int[Tensor, " b"]:
        """Row of each sequence's first position (of an empty one: where it would be)."""
        return self.cu_seqlens[:-1]

    @cached_property
    def sequence_ids(self) -> Int[Tensor, " t"]:
        """The sequence of each position."""
        ids = torch.arange(self.num_sequences, device=self.device)
        return torch.repeat_interleave(ids, self.lengths, output_size=self.num_positions)

    @cached_property
    def positions(self) -> Int[Tensor, " t"]:
        """Index of each position within its own sequence, from 0."""
        rows = torch.arange(self.num_positions, device=self.device)
        return rows - self.starts[self.sequence_ids]

    def with_input_ids(self, input_ids: Int[Tensor, " t"]) -> "Sequences":
        """The same sequences, which know their bytes."""
        return self._with(input_ids=input_ids)

    def with_boundaries(self, boundaries: Bool[Tensor, " t"]) -> "Sequences":
        """The same sequences, which know where their chunks start."""
        if len(boundaries) != self.num_positions:
            raise ValueError(f"{len(boundaries)} boundaries are given for {self.num_positions} positions")
        return self._with(boundaries=boundaries)

    def _with(self, **known: Tensor) -> "Sequences":
        sequences = replace(self, **known)
        sequences.__dict__["host_lengths"] = self.host_lengths
        return sequences

    def require_input_ids(self, who: str) -> Int[Tensor, " t"]:
        """The bytes at the positions. Raises ConfigError naming who needs them where there are none."""
        if self.input_ids is None:
            raise ConfigError(f"{who} looks at the bytes, which only the outermost stage of a model has")
        return self.input_ids

    def nonempty_only(self) -> "Sequences":
        """The same rows without the sequences of length 0; the others keep the slots they own."""
        if all(self.host_lengths):
            return self
        return self.memo("nonempty_only", self._drop_empty)

    def _drop_empty(self) -> "Sequences":
        kept = torch.tensor([i for i, n in enumerate(self.host_lengths) if n], dtype=torch.int64, device=self.device)
        lengths = [n for n in self.host_lengths if n]
        cu_seqlens = torch.tensor([0, *accumulate(lengths)], dtype=torch.int64, device=self.device)
        sequences = Sequences(cu_seqlens, kept if self.slots is None else self.slots[kept], _is_checked=True)
        sequences.__dict__["host_lengths"] = lengths
        return sequences

    @property
    def is_equal(self) -> bool:
        """Whether all sequences have the same length: then a packed activation is also a `(b, l, d)` view."""
        return all(n == self.host_lengths[0] for n in self.host_lengths)

    @property
    def device(self) -> torch.device:
        return self.cu_seqlens.device

    def memo(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returned the first time for this key: layouts that every layer of a stage shares."""
        if key not in self._memo:
            self._memo[key] = build()
        return self._memo[key]

    def owned(self, state: Tensor) -> Tensor:
        """The rows of a `(s, ...)` state that these sequences own, as `(b, ...)`."""
        self.require_slots(state.shape[0])
        return state if self.slots is None else state[self.slots]

    def replaced(self, state: Tensor, rows: Tensor) -> Tensor:
        """The `(s, ...)` state with the rows of these sequences replaced by `(b, ...)`; the given state is consumed."""
        rows = rows.to(state.dtype)
        if self.slots is None:
            return rows
        if state.requires_grad or rows.requires_grad:
            return state.index_copy(0, self.slots, rows)
        return state.index_copy_(0, self.slots, rows)

    def require_slots(self, num_slots: int) -> None:
        """Raises ValueError unless a state of so many rows has the slots that these sequences own."""
        if self.slots is None:
            if num_slots != self.num_sequences:
                raise ValueError(
                    f"{self.num_sequences} sequences but a state of {num_slots} slots; name the slots they own"
                )
        elif self._max_slot >= num_slots:
            raise ValueError(f"slot {self._max_slot} is out of range for a state of {num_slots} slots")

    @cached_property
    def _max_slot(self) -> int:
        return -1 if self.slots is None else max(self.slots.tolist(), default=-1)


def _whole_numbers(name: str, x: Tensor) -> Tensor:
    """As a contiguous vector of int64."""
    if x.dtype == torch.bool or x.is_floating_point() or x.is_complex() or x.dim() != 1:
        raise ValueError(f"{name} must be a vector of whole numbers, got {x.dtype} of shape {tuple(x.shape)}")
    return x.to(torch.int64).contiguous()


def _shortened(numbers: list[int], most: int = 8) -> str:
    return str(numbers) if len(numbers) <= most else f"{str(numbers[:most])[:-1]}, ...]"
