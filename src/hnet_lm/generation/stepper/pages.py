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

LEAST_ENTRIES = 256


def sent(numbers: Sequence[int], device: torch.device) -> Int[Tensor, " n"]:
    """On the device, and nobody waits until they are there."""
    on_host = torch.tensor(numbers, dtype=torch.int64, pin_memory=device.type == "cuda")
    return on_host.to(device, non_blocking=True)


class OutOfPages(Exception):
    """The pool has fewer free pages than a call may need. Nothing has been changed."""


class PagePool:
    """`num_pages` pages of `page_numbers` numbers each, and a list of those that nobody uses.

    One more page lies behind them, for what is written and never read (`FixedKVState`).
    """

    def __init__(self, num_pages: int, page_numbers: int, dtype: torch.dtype, device: torch.device) -> None:
        # Not filled: on a CPU the operating system then provides memory as it is first written to.
        self.pages: Float[Tensor, "num_pages_and_1 page_numbers"] = torch.empty(
            num_pages + 1, page_numbers, dtype=dtype, device=device
        )
        self._free = list(range(num_pages - 1, -1, -1))

    @property
    def num_pages(self) -> int:
        return self.pages.shape[0] - 1

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
    """The attention layers of one stage and window: their states, and the pages that each stream has in them.

    How many positions of a stream the layers have seen is known to the device. Here is known how many it was asked to
    read, which is as many in the outermost stage, and by how much that is too many elsewhere (`learn`).
    """

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
        self._asked = [0] * max_streams  # positions of each stream that were to be read
        self._excess = [0] * max_streams  # how many of these the layers are known not to have seen

    @property
    def num_seen(self) -> Int[Tensor, " s"]:
        """How many positions of each stream the layers have seen."""
        return self.states[0].num_seen

    @property
    def asked(self) -> list[int]:
        """A copy, to be given to `learn` with what the device has seen by then."""
        return list(self._asked)

    def learn(self, num_seen: Sequence[int], asked: Sequence[int]) -> None:
        """How many positions had been seen when so many had been asked for. What is asked for later adds to both."""
        self._excess = [most - seen for most, seen in zip(asked, num_seen, strict=True)]

    def reset(self, stream: int) -> None:
        """Nothing of the stream has been read."""
        self._asked[stream] = self._excess[stream] = 0

    def most_seen(self, stream: int) -> int:
        """The most positions of a stream that the layers can have seen."""
        return self._asked[stream] - self._excess[stream]

    def num_entries(self, streams: Sequence[int]) -> int:
        """Entries within which all positions of these streams lie: a power of 2, or as many as there can be."""
        most = max((self.most_seen(stream) for stream in streams), default=0)
        most = max(LEAST_ENTRIES, 1 << max(most - 1, 0).bit_length())
        limit = self._tables.shape[2] * self._page_positions
        return min(most, limit if self._ring is None else min(limit, self._ring))

    def num_pages(self, num_seen: int) -> int:
        """How many pages a stream of so many positions takes."""
        return self._num_layers * self._in_each_layer(num_seen)

    def num_held(self, stream: int) -> int:
        """How many pages a stream has now."""
        return self._num_layers * len(self._held[stream])

    def num_missing(self, streams: Sequence[int], lengths: Sequence[int]) -> int:
        """How many more pages these streams need together, to go on by so many positions each."""
        missing = 0
        for stream, length in zip(streams, lengths, strict=True):
            seen = self.most_seen(stream)
            if length and seen + length > self._covered[stream]:
                missing += self.num_pages(seen + length) - self.num_held(stream)
        return missing

    def grow(self, stream: int, length: int) -> None:
        """The stream is to go on by so many positions: pages for them. Raises OutOfPages."""
        held, seen = self._held[stream], self.most_seen(stream)
        self._asked[stream] += length
        if seen + length <= self._covered[stream]:
            return
        for index in range(len(held), self._in_each_layer(seen + length)):
            pages = self._pool.take(self._num_layers)
            held.append(pages)
            self._tables[:, stream, index] = sent(pages, self._tables.device)
        self._update_covered(stream)

    def trim(self, stream: int) -> None:
        """Give back the pages beyond those that the positions seen need."""
        self._keep(stream, self._in_each_layer(self.most_seen(stream)))

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
