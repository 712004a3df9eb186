"""Keys and values that later positions may still see: everything, or for a windowed layer a ring of its window."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.checks import require_floating, require_state
from hnet_lm.sequences import Sequences
from hnet_lm.state import Sizes, State

GROWTH = 64


@dataclass
class KVState(State):
    """Position i of a sequence is in entry i, modulo window + 1 where there is a window.

    The number of entries grows in steps with the longest sequence, for a windowed layer up to window + 1.
    """

    keys: Float[Tensor, "s entries h p"]
    values: Float[Tensor, "s entries h p"]
    num_seen: Int[Tensor, " s"]
    window: int | None = None
    """That of the layer it belongs to, known from its first call at least: another ring holds other positions."""

    @classmethod
    def new(
        cls,
        num_sequences: int,
        num_heads: int,
        head_dim: int,
        dtype: torch.dtype,
        device: torch.device,
        window: int | None = None,
    ) -> Self:
        empty = torch.zeros(num_sequences, 0, num_heads, head_dim, dtype=dtype, device=device)
        return cls(empty, empty.clone(), torch.zeros(num_sequences, dtype=torch.int64, device=device), window)

    @property
    def num_entries(self) -> int:
        return self.keys.shape[1]

    def num_held(self, window: int, seqs: Sequences) -> int:
        """The most entries that one of these sequences may hold."""
        return self.num_entries

    def held(self, window: int, seqs: Sequences) -> tuple[Float[Tensor, "b e h p"], Float[Tensor, "b e h p"]]:
        """The keys and values of these sequences by entry; behind what a sequence holds there are finite numbers."""
        return seqs.owned(self.keys), seqs.owned(self.values)

    def sizes(self) -> Sizes:
        """The number of entries is not a size of the model."""
        return {"keys": tuple(self.keys.shape[2:]), "values": tuple(self.values.shape[2:])}

    def require_fit(self, num_heads: int, head_dim: int, window: int, seqs: Sequences) -> None:
        """Raises ValueError unless this can be the state of these sequences in a layer of these sizes."""
        if self.window not in (None, window):
            raise ValueError(f"attention: the state is of a window of {self.window}, but this call has one of {window}")
        require_floating("attention", keys=self.keys, values=self.values)
        require_state("attention", "num_seen", self.num_seen, seqs)
        if self.num_seen.dtype != torch.int64:
            raise ValueError(f"attention: num_seen must be int64, not {self.num_seen.dtype}")
        heads = tuple(self.keys.shape[2:])
        if heads != (num_heads, head_dim) or self.values.shape != self.keys.shape:
            raise ValueError(f"attention: the state has heads {heads}, but this call needs {(num_heads, head_dim)}")
        for name, x in (("keys", self.keys), ("values", self.values)):
            require_state("attention", name, x, seqs, *self.keys.shape[1:])
        if len(self.keys) != len(self.num_seen):
            raise ValueError(f"attention: keys of {len(self.keys)} slots, but num_seen of {len(self.num_seen)}")

    def write(self, k: Float[Tensor, "t h p"], v: Float[Tensor, "t h p"], window: int, seqs: Sequences) -> "KVState":
        """The state with the positions of a packed span added; this one is consumed."""
        k, v, slots, entries, end = to_write(self.num_seen, k, v, window, seqs)
        self.reserve(int(end.max()) if len(end) else 0, window)
        index = (slots, entries)
        keys, values = k.to(self.keys.dtype), v.to(self.values.dtype)
        return KVState(
            _put(self.keys, index, keys), _put(self.values, index, values), seqs.replaced(self.num_seen, end), window
        )

    def reserve(self, num_seen: int, window: int) -> None:
        """Room for the keys and values of this many positions per sequence."""
        most = num_seen if window < 0 else min(num_seen, window + 1)
        if most > self.num_entries:
            entries = max(most, self.num_entries + self.num_entries // 2)
            entries = -(-entries // GROWTH) * GROWTH
            self._resize(entries if window < 0 else min(entries, window + 1))

    def _resize(self, entries: int) -> None:
        self.keys, self.values = (pad(x, (0, 0, 0, 0, 0, entries - x.shape[1])) for x in (self.keys, self.values))

    def select(self, indices: Sequence[int] | Tensor) -> Self:
        selected = super().select(indices)
        longest = int(selected.num_seen.max()) if len(selected.num_seen) else 0
        if longest < selected.num_entries:  # the longest sequence has left
            selected._resize(longest)
        return selected

    @classmethod
    def join(cls, states: Sequence[Self]) -> Self:
        # A ring that is not yet full has not wrapped, so its entries stay where they are when it is widened.
        entries = max(state.num_entries for state in states)
        widened = [cls(state.keys, state.values, state.num_seen, state.window) for state in states]
        for state in widened:
            state._resize(entries)
        return super().join(widened)

    def visible(
        self, first: Int[Tensor, " b"], span: int, window: int, seqs: Sequences
    ) -> tuple[Tensor, Tensor, Bool[Tensor, "b span"]]:
        """Keys and values of the `span` positions before `first` of each sequence, in order; which of them exist."""
        position = first[:, None] + torch.arange(-span, 0, device=first.device)
        exists = position >= 0
        entry = entry_of(position.clamp(min=0), window)
        keys, values = (
            torch.take_along_dim(seqs.owned(x), entry[..., None, None], 1) for x in (self.keys, self.values)
        )
        return keys, values, exists


def entry_of(position: Int[Tensor, "..."], window: int) -> Int[Tensor, "..."]:
    """The entry that holds a position: entries are reused in a ring of window + 1."""
    return position if window < 0 else position % (window + 1)


def to_write(
    num_seen: Int[Tensor, " s"], k: Float[Tensor, "t h p"], v: Float[Tensor, "t h p"], window: int, seqs: Sequences
) -> tuple[Tensor, Tensor, Int[Tensor, " n"], Int[Tensor, " n"], Int[Tensor, " b"]]:
    """What of a packed span is kept: k and v, the slot and the entry of each; and how much each sequence has seen then.

    Of a span longer than the ring only its end is kept.
    """
    start = seqs.owned(num_seen)
    end = start + seqs.lengths
    position = start[seqs.sequence_ids] + seqs.positions
    slots = seqs.sequence_ids if seqs.slots is None else seqs.slots[seqs.sequence_ids]
    if 0 <= window < seqs.max_length - 1:
        kept = position >= end[seqs.sequence_ids] - (window + 1)
        k, v, position, slots = k[kept], v[kept], position[kept], slots[kept]
    return k, v, slots, entry_of(position, window), end


def _put(buffer: Tensor, index: tuple[Tensor, Tensor], rows: Tensor) -> Tensor:
    if buffer.requires_grad or rows.requires_grad:
        return buffer.index_put(index, rows)
    return buffer.index_put_(index, rows)
