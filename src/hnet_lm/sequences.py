"""Packed sequences: how the `t` rows of an activation divide into sequences.

Every activation in this package is `(t, d)`: all sequences one behind the other, without padding. `Sequences` carries
the cumulative lengths, and which slot of the carried state each sequence owns. A sequence may have length 0; its state
then does not change. Ragged batches, packed documents, prefill in pieces and batched decoding are all this one thing.

What is given is checked and normalised once, here: int64, contiguous, within range, on one device. Nothing behind it
has to.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, pairwise
from operator import index
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.errors import ConfigError

T = TypeVar("T")

IGNORE_INDEX = -100
"""The target of a position that has none; the default of torch's `ignore_index`."""


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
            object.__setattr__(self, "cu_seqlens", _with_values("cu_seqlens", self.cu_seqlens))
            self._check_lengths()
            if self.slots is not None:
                slots = _with_values("slots", self.slots).to(self.device)
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
        """From the length of each sequence, in positions.

        Raises TypeError for lengths that are no whole numbers, ValueError for negative ones.
        """
        host = _with_values("lengths", lengths).tolist() if isinstance(lengths, Tensor) else [index(n) for n in lengths]
        if any(n < 0 for n in host):
            raise ValueError(f"sequence lengths must be 0 or more, got {min(host)}")
        if sum(host) >= 2**63:
            raise ValueError(f"sequence lengths must add up to less than 2^63 positions, got {sum(host)}")
        if device is None and isinstance(lengths, Tensor):
            device = lengths.device
        cu_seqlens = torch.tensor([0, *accumulate(host)], dtype=torch.int64, device=device)
        memo: dict[Hashable, Any] = {"host_lengths": host}
        return cls(cu_seqlens, slots, _memo=memo, _is_checked=slots is None)

    def inner(self, cu_seqlens: Int[Tensor, " b_plus_1"], lengths: list[int] | None = None) -> "Sequences":
        """The sequences that these become in an inner stage: other lengths, the same slots."""
        memo: dict[Hashable, Any] = {} if lengths is None else {"host_lengths": lengths}
        return Sequences(cu_seqlens, self.slots, _memo=memo, _is_checked=True)

    def keep_rows(self, rows: Int[Tensor, " c"]) -> None:
        """Remember which rows of the stage around it became the positions of this inner one."""
        self._memo["rows"] = rows

    def rows_of(self, is_boundary: Bool[Tensor, " t"]) -> Int[Tensor, " c"]:
        """The rows of the stage around it, whose boundaries are given, that became the positions of this inner one."""
        return self.memo("rows", lambda: is_boundary.nonzero().squeeze(1))

    def lengthened(self, num_positions: int) -> "Sequences":
        """The same sequences, of which the last one is longer by so many positions; without what is known per
        position."""
        if not num_positions:
            return self
        lengths = [*self.host_lengths[:-1], self.host_lengths[-1] + num_positions]
        cu_seqlens = torch.cat([self.cu_seqlens[:-1], self.cu_seqlens[-1:] + num_positions])
        return self.inner(cu_seqlens, lengths)

    @property
    def host_lengths(self) -> list[int]:
        """Lengths as Python integers. On an accelerator the first use waits for the device."""
        return self.memo("host_lengths", self.lengths.tolist)

    @property
    def lengths(self) -> Int[Tensor, " b"]:
        return self.memo("lengths", self.cu_seqlens.diff)

    @property
    def num_sequences(self) -> int:
        return self.cu_seqlens.shape[0] - 1

    @property
    def num_positions(self) -> int:
        return self.memo("num_positions", lambda: sum(self.host_lengths))

    @property
    def max_length(self) -> int:
        return self.memo("max_length", lambda: max(self.host_lengths, default=0))

    @property
    def starts(self) -> Int[Tensor, " b"]:
        """Row of each sequence's first position (of an empty one: where it would be)."""
        return self.cu_seqlens[:-1]

    @property
    def sequence_ids(self) -> Int[Tensor, " t"]:
        """The sequence of each position."""
        return self.memo("sequence_ids", self._sequence_ids)

    def _sequence_ids(self) -> Int[Tensor, " t"]:
        ids = torch.arange(self.num_sequences, device=self.device)
        return torch.repeat_interleave(ids, self.lengths, output_size=self.num_positions)

    @property
    def positions(self) -> Int[Tensor, " t"]:
        """Index of each position within its own sequence, from 0."""
        return self.memo("positions", self._positions)

    def _positions(self) -> Int[Tensor, " t"]:
        rows = torch.arange(self.num_positions, device=self.device)
        return rows - self.starts[self.sequence_ids]

    def with_input_ids(self, input_ids: Int[Tensor, " t"]) -> "Sequences":
        """The same sequences, which know their bytes. Raises ValueError unless those are one number per position."""
        return self._with(input_ids=self._per_position("input_ids", _whole_numbers("input_ids", input_ids)))

    def with_boundaries(self, boundaries: Bool[Tensor, " t"]) -> "Sequences":
        """The same sequences, which know where their chunks start. Raises ValueError unless they are one bool per
        position."""
        if not isinstance(boundaries, Tensor) or boundaries.dtype != torch.bool or boundaries.dim() != 1:
            raise ValueError("boundaries must be a vector of bools, one per position")
        return self._with(boundaries=self._per_position("boundaries", boundaries))

    def _per_position(self, name: str, x: Tensor) -> Tensor:
        if len(x) != self.num_positions:
            raise ValueError(f"{len(x)} {name} are given for {self.num_positions} positions")
        if x.device != self.device:
            raise ValueError(f"{name} are on {x.device}, but the sequences are on {self.device}")
        return x

    def _with(self, **known: Tensor) -> "Sequences":
        return replace(self, **known)

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
        return self.only([i for i, n in enumerate(self.host_lengths) if n])

    def only(self, members: Sequence[int]) -> "Sequences":
        """Some of these sequences, as if their rows followed one another; they keep the slots they own."""
        kept = torch.tensor(members, dtype=torch.int64, device=self.device)
        lengths = [self.host_lengths[i] for i in members]
        cu_seqlens = torch.tensor([0, *accumulate(lengths)], dtype=torch.int64, device=self.device)
        slots = kept if self.slots is None else self.slots[kept]
        return Sequences(cu_seqlens, slots, _memo={"host_lengths": lengths}, _is_checked=True)

    @property
    def is_equal(self) -> bool:
        """Whether all sequences have the same length: then a packed activation is also a `(b, l, d)` view."""
        return all(n == self.host_lengths[0] for n in self.host_lengths)

    @property
    def device(self) -> torch.device:
        return self.cu_seqlens.device

    def memo(self, key: Hashable, build: Callable[[], T]) -> T:
        """What `build` returned the first time for this key: layouts that every layer of a stage shares.

        Also all that is derived from the lengths is kept here: compilers follow a dictionary, but not the lock within
        functools.cached_property of Python 3.11.
        """
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

    @property
    def _max_slot(self) -> int:
        return self.memo("max_slot", lambda: -1 if self.slots is None else max(self.slots.tolist(), default=-1))


def _with_values(name: str, x: Tensor) -> Tensor:
    """As a contiguous vector of int64 that can be read."""
    x = _whole_numbers(name, x)
    if x.device.type == "meta":
        raise ValueError(f"{name} must have values, which a tensor on the meta device has not")
    return x


def _whole_numbers(name: str, x: Tensor) -> Tensor:
    """As a contiguous vector of int64. An empty one may be of any type, as `torch.tensor([])` is."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(x).__name__}")
    if x.is_nested or x.layout != torch.strided:
        raise ValueError(f"{name} must be a dense tensor, neither nested nor of layout {x.layout}")
    if x.dim() == 1 and not len(x):
        return x.to(torch.int64)
    if x.dtype == torch.bool or x.is_floating_point() or x.is_complex() or x.dim() != 1:
        raise ValueError(f"{name} must be a vector of whole numbers, got {x.dtype} of shape {tuple(x.shape)}")
    return x.to(torch.int64).contiguous()


def _shortened(numbers: list[int], most: int = 8) -> str:
    return str(numbers) if len(numbers) <= most else f"{str(numbers[:most])[:-1]}, ...]"
