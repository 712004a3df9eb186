"""A paged state that is read and written at fixed shapes, so that nobody has to ask the device what is in it.

For calls of one position per sequence, sequence i owning slot i, as a step that is captured once and replayed needs.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.attention._kv_state import entry_of
from hnet_lm.ops.attention._paged_kv_state import PagedKVState
from hnet_lm.sequences import Sequences


@dataclass
class FixedKVState(PagedKVState):
    """`PagedKVState` of which `num_entries` entries are read of every sequence, and whose caller says who takes part.

    The position of a sequence that takes no part is written to the last page of the pool, which belongs to nobody, and
    is not counted. What comes of such a row means nothing.
    """

    takes_part: Bool[Tensor, " s"]
    num_entries: int

    def require_fit(self, num_heads: int, head_dim: int, window: int, seqs: Sequences) -> None:
        """Raises ValueError unless this can be the state of these sequences in a layer of these sizes."""
        if seqs.slots is not None or seqs.num_positions != seqs.num_sequences or seqs.max_length > 1:
            raise ValueError("attention: a state of fixed shape takes one position of every slot, in order")
        self._require_sizes(num_heads, head_dim, seqs)

    def num_held(self, window: int, seqs: Sequences) -> int:
        """How many entries of each sequence are read."""
        return self.num_entries

    def held(self, window: int, seqs: Sequences) -> tuple[Float[Tensor, "b e h p"], Float[Tensor, "b e h p"]]:
        """The keys and values of all sequences by entry, and zeros behind what a sequence holds."""
        entries = torch.arange(self.num_entries, device=self.num_seen.device).expand(len(self.num_seen), -1)
        return self._gather(entries, entries < self.num_seen[:, None], seqs)

    def write(
        self, k: Float[Tensor, "t h p"], v: Float[Tensor, "t h p"], window: int, seqs: Sequences
    ) -> "FixedKVState":
        """The state with the position of every sequence added that takes part."""
        entry = entry_of(self.num_seen, window) * self.takes_part
        page = self.table.gather(1, (entry // self.page_positions)[:, None])[:, 0]
        index = (torch.where(self.takes_part, page, len(self.pages) - 1), entry % self.page_positions)
        keys, values = self._by_page()
        keys.index_put_(index, k.to(keys.dtype))
        values.index_put_(index, v.to(values.dtype))
        num_seen = self.num_seen + self.takes_part
        return FixedKVState(
            num_seen, self.table, self.pages, self.num_heads, self.head_dim, self.takes_part, self.num_entries
        )
