"""Packed sequences: how the `t` rows of an activation divide into sequences.

Every activation in this package is `(t, d)`: all sequences one behind the other, without padding. `Sequences` carries
the cumulative lengths, and which slot of the carried state each sequence owns. A sequence may have length 0; its state
then does not change. Ragged batches, packed documents, prefill in pieces and batched decoding are all this one thing.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.errors import ConfigError

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Sequences:
    """Cumulative lengths of packed sequences, and the state slot of each (`None`: sequence i owns slot i)."""

    cu_seqlens: Int[Tensor, " b_plus_1"]
    slots: Int[Tensor, " b"] | None = None
    input_ids: Int[Tensor, " t"] | None = None
    """The bytes at the positions, for chunkers that look at them; the model sets them for its outermost stage."""
    boundaries: Bool[Tensor, " t"] | None = None
    """Where chunks start, for an oracle chunker."""
    _memo: dict[Hashable, Any] = field(default_factory=dict, repr=False)

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
        sequences = cls(torch.tensor([0, *accumulate(host)], dtype=torch.int64, device=device), slots)
        sequences.__dict__["host_lengths"] = host
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
        """The bytes at the positions. Raises ConfigError for whoever stands where there are none."""
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
        slots = kept if self.slots is None else self.slots[kept]
        return Sequences.from_lengths([n for n in self.host_lengths if n], slots, self.device)

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
        if self.slots is None:
            self._require_a_slot_each(state)
            return state
        return state[self.slots]

    def busy_slots(self, state: Tensor) -> Int[Tensor, " n"]:
        """The slots of the sequences that are not empty, for code that works on a `(s, ...)` state where it lies."""
        if self.slots is None:
            self._require_a_slot_each(state)
        return self._busy_slots

    @cached_property
    def _busy_slots(self) -> Int[Tensor, " n"]:
        slots = torch.arange(self.num_sequences, device=self.device) if self.slots is None else self.slots
        return slots if all(self.host_lengths) else slots[self.lengths > 0]

    def _require_a_slot_each(self, state: Tensor) -> None:
        if state.shape[0] != self.num_sequences:
            raise ValueError(
                f"{self.num_sequences} sequences but a state of {state.shape[0]} slots; name the slots they own"
            )

    def replaced(self, state: Tensor, rows: Tensor) -> Tensor:
        """The `(s, ...)` state with the rows of these sequences replaced by `(b, ...)`; the given state is consumed."""
        rows = rows.to(state.dtype)
        if self.slots is None:
            return rows
        if state.requires_grad or rows.requires_grad:
            return state.index_copy(0, self.slots, rows)
        return state.index_copy_(0, self.slots, rows)
