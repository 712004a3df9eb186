"""Memory for keys and values: one pool of pages, which the attention layers of all streams share.

All attention layers of one stage and window have seen the same positions of a stream, so they come by their pages
together: a `PagedStage` keeps their tables. A layer with a window reuses its pages, so it needs no more than its window
does.
"""

import sys
from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.ops.attention import PagedKVState, page_positions


class OutOfPages(Exception):
    """The pool has fewer free pages than a call may need. Nothing has been changed."""


class PagePool:
    """`num_pages` pages of `page_numbers` numbers each, and a list of those that nobody uses."""

    def __init__(self, num_pages: int, page_numbers: int, dtype: torch.dtype, device: torch.device) -> None:
        # Not filled: on a CPU the operating system then provides memory as it is first written to.
        self.pages: Float[Tensor, "num_pages page_numbers"] = torch.empty(
            num_pages, page_numbers, dtype=dtype, device=device
        )
        self._free = list(range(num_pages - 1, -1, -1))

    @property
    def num_pages(self) -> int:
        return self.pages.shape[0]

    @property
    def num_free(self) -> int:
        return len(self._free)

    @property
    def page_bytes(self) -> int:
        return self.pages.shape[1] * self.pages.element_size()

    def take(self, num: int) -> list[int]:
        """Pages that are the caller's until it gives them back. Raises OutOfPages."""
        if num > len(self._free):
            raise OutOfPages(f"{num} pages are needed and {len(self._free)} of {self.num_pages} are free")
        taken = self._free[len(self._free) - num :]
        del self._free[len(self._free) - num :]
        return taken

    def give_back(self, pages: Sequence[int]) -> None:
        self._free.extend(pages)


class PagedStage:
    """The attention layers of one stage and window: their states, and the pages that each stream has in them."""

    def __init__(self, pool: PagePool, max_streams: int, num_layers: int, num_heads: int, head_dim: int, window: int):
        self._pool = pool
        self._num_layers = num_layers
        self._page_positions = page_positions(pool.pages.shape[1], num_heads, head_dim)
        self._ring = None if window < 0 else window + 1
        most = pool.num_pages // num_layers  # of one stream, as all layers have equally many
        max_pages = most if self._ring is None else min(most, self._in_each_layer(self._ring))
        device = pool.pages.device
        self._tables: Int[Tensor, "layers s max_pages"] = torch.empty(
            num_layers, max_streams, max_pages, dtype=torch.int64, device=device
        )
        self.states = [
            PagedKVState(
                torch.zeros(max_streams, dtype=torch.int64, device=device), table, pool.pages, num_heads, head_dim
            )
            for table in self._tables
        ]
        self._held: list[list[list[int]]] = [[] for _ in range(max_streams)]  # each entry: one page of every layer
        self._covered = [0] * max_streams  # positions that the pages of each stream are enough for

    @property
    def num_seen(self) -> list[int]:
        """How many positions of each stream the layers have seen. On an accelerator this waits for the device."""
        return self.states[0].num_seen.tolist()

    def num_pages(self, num_seen: int) -> int:
        """How many pages a stream of so many positions takes."""
        return self._num_layers * self._in_each_layer(num_seen)

    def num_held(self, stream: int) -> int:
        """How many pages a stream has now."""
        return self._num_layers * len(self._held[stream])

    def num_missing(self, streams: Sequence[int], lengths: Sequence[int]) -> int:
        """How many more pages these streams need together, to go on by so many positions each."""
        seen, covered, missing = self.num_seen, self._covered, 0
        for stream, length in zip(streams, lengths, strict=True):
            if length and seen[stream] + length > covered[stream]:
                missing += self.num_pages(seen[stream] + length) - self.num_held(stream)
        return missing

    def grow(self, stream: int, length: int) -> None:
        """Pages to go on by so many positions. Raises OutOfPages."""
        held = self._held[stream]
        for index in range(len(held), self._in_each_layer(self.num_seen[stream] + length)):
            pages = self._pool.take(self._num_layers)
            held.append(pages)
            self._tables[:, stream, index] = torch.tensor(pages, device=self._tables.device)
        self._update_covered(stream)

    def trim(self, stream: int) -> None:
        """Give back the pages beyond those that the positions seen need."""
        self._keep(stream, self._in_each_layer(self.num_seen[stream]))

    def release(self, stream: int) -> None:
        """Give back all pages of a stream."""
        self._keep(stream, 0)

    def _keep(self, stream: int, num: int) -> None:
        held = self._held[stream]
        for pages in held[num:]:
            self._pool.give_back(pages)
        del held[num:]
        self._update_covered(stream)

    def _in_each_layer(self, num_seen: int) -> int:
        entries = num_seen if self._ring is None else min(num_seen, self._ring)
        return -(-entries // self._page_positions)

    def _update_covered(self, stream: int) -> None:
        covered = len(self._held[stream]) * self._page_positions
        self._covered[stream] = covered if self._ring is None or covered < self._ring else sys.maxsize
