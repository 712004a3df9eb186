"""Keys and values in pages of a pool that all layers and streams share, for a state that lives long (`Stepper`).

A page of a layer with h heads of width p holds P positions: its numbers [0, P h p) are their keys as (P, h, p), the
next P h p their values. Entry e of a stream is row e % P of the page `table[slot, e // P]`. Which pages a stream has is
for the owner of the pool to see to, before a call: nothing here allocates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn, Self, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hnet_lm.ops.attention._kv_state import KVState, entry_of, to_write
from hnet_lm.ops.checks import require_state
from hnet_lm.sequences import Sequences
from hnet_lm.state import Sizes, State

SHARED = "a paged state shares the pages of a pool with other states, so it cannot be selected, joined or cloned"


@dataclass
class PagedKVState(State):
    """What `KVState` holds, in pages. A write changes the pages and `num_seen` in place, so slots must be given."""

    num_seen: Int[Tensor, " s"]
    table: Int[Tensor, "s max_pages"]
    pages: Float[Tensor, "num_pages page_numbers"]
    num_heads: int
    head_dim: int

    @property
    def page_positions(self) -> int:
        """P: how many positions a page of this layer holds."""
        return page_positions(self.pages.shape[1], self.num_heads, self.head_dim)

    def per_sequence(self) -> list[Tensor]:
        """Not the pages, which all sequences share."""
        return [self.num_seen, self.table]

    def sizes(self) -> Sizes:
        """Those of a `KVState`: the two are for the same models."""
        return dict.fromkeys(("keys", "values"), (self.num_heads, self.head_dim))

    def require_fit(self, num_heads: int, head_dim: int, window: int, seqs: Sequences) -> None:
        """Raises ValueError unless this can be the state of these sequences in a layer of these sizes."""
        if seqs.slots is None:
            raise ValueError("attention: a paged state is changed in place, so the sequences must name their slots")
        self._require_sizes(num_heads, head_dim, seqs)

    def _require_sizes(self, num_heads: int, head_dim: int, seqs: Sequences) -> None:
        if (self.num_heads, self.head_dim) != (num_heads, head_dim):
            heads = (self.num_heads, self.head_dim)
            raise ValueError(f"attention: the state has heads {heads}, but this call needs {(num_heads, head_dim)}")
        require_state("attention", "num_seen", self.num_seen, seqs)

    def num_held(self, window: int, seqs: Sequences) -> int:
        """The most entries that one of these sequences holds."""
        longest = int(seqs.owned(self.num_seen).max()) if seqs.num_sequences else 0
        return longest if window < 0 else min(longest, window + 1)

    def write(
        self, k: Float[Tensor, "t h p"], v: Float[Tensor, "t h p"], window: int, seqs: Sequences
    ) -> "PagedKVState":
        """The state with the positions of a packed span added, in pages that the table has for them already."""
        k, v, slots, entries, end = to_write(self.num_seen, k, v, window, seqs)
        keys, values = self._by_page()
        rows = entries % self.page_positions
        index = (self.table[slots, entries // self.page_positions], rows)
        keys.index_put_(index, k.to(keys.dtype))
        values.index_put_(index, v.to(values.dtype))
        num_seen = seqs.replaced(self.num_seen, end)
        return PagedKVState(num_seen, self.table, self.pages, self.num_heads, self.head_dim)

    def held(self, window: int, seqs: Sequences) -> tuple[Float[Tensor, "b e h p"], Float[Tensor, "b e h p"]]:
        """The keys and values of these sequences by entry, and zeros behind what a sequence holds."""
        num_held = self.num_held(window, seqs)
        entries = torch.arange(num_held, device=self.num_seen.device).expand(seqs.num_sequences, num_held)
        return self._gather(entries, entries < seqs.owned(self.num_seen)[:, None], seqs)

    def visible(
        self, first: Int[Tensor, " b"], span: int, window: int, seqs: Sequences
    ) -> tuple[Tensor, Tensor, Bool[Tensor, "b span"]]:
        """Keys and values of the `span` positions before `first` of each sequence, in order; which of them exist."""
        position = first[:, None] + torch.arange(-span, 0, device=first.device)
        exists = position >= 0
        return *self._gather(entry_of(position.clamp(min=0), window), exists, seqs), exists

    def _gather(
        self, entries: Int[Tensor, "b e"], exists: Bool[Tensor, "b e"], seqs: Sequences
    ) -> tuple[Tensor, Tensor]:
        # What does not exist is read from page 0 and cleared: whatever is there, not-a-number too, stays unseen.
        slots = torch.arange(seqs.num_sequences, device=entries.device) if seqs.slots is None else seqs.slots
        pages = self.table[slots[:, None], entries // self.page_positions * exists] * exists
        rows, nothing = entries % self.page_positions, ~exists[..., None, None]
        keys, values = self._by_page()
        return keys[pages, rows].masked_fill_(nothing, 0), values[pages, rows].masked_fill_(nothing, 0)

    def _by_page(self) -> tuple[Float[Tensor, "num_pages P h p"], Float[Tensor, "num_pages P h p"]]:
        """Keys and values as views of the pool."""
        shape = (self.page_positions, self.num_heads, self.head_dim)
        half = self.page_positions * self.num_heads * self.head_dim
        return self.pages[:, :half].unflatten(1, shape), self.pages[:, half : 2 * half].unflatten(1, shape)

    def select(self, indices: Sequence[int] | Tensor) -> NoReturn:
        raise TypeError(SHARED)

    def clone(self) -> NoReturn:
        raise TypeError(SHARED)

    @classmethod
    def join(cls, states: Sequence[Self]) -> NoReturn:
        raise TypeError(SHARED)


AttentionState: TypeAlias = KVState | PagedKVState
"""What attention may be given as its state: both have `num_seen`, `num_held`, `held`, `visible` and `write`."""


def page_positions(page_numbers: int, num_heads: int, head_dim: int) -> int:
    """How many positions, each a key and a value of every head, a page of so many numbers holds."""
    return page_numbers // (2 * num_heads * head_dim)
