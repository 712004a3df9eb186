"""How many bytes of state a set of sequences can come to, before it does.

How many chunks an inner stage will make of a text is not known; every byte could be one, so that is what is reckoned
with. The keys and values of an attention layer stand in a buffer as long for every sequence as for the longest, which
grows by half, or to what is needed if that is more, in steps of 64 entries.
"""

from hnet_lm.model import HNetLM
from hnet_lm.model.sizes import state_bytes_by_part

_GROWTH_STEP = 64


class StateBudget:
    """Whether the state of so many sequences, the longest of so many positions, stays within `num_bytes`."""

    def __init__(self, model: HNetLM, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._model = model
        self._sizes: dict[int, int] = {}

    def state_bytes(self, num_sequences: int, longest: int) -> int:
        """The state can never be larger than this. (While sequences join or leave, a copy exists for a moment.)"""
        entries = -(-(longest + longest // 2) // _GROWTH_STEP) * _GROWTH_STEP
        if entries not in self._sizes:
            every_byte_a_chunk = [1.0] * self._model.config.num_stages
            self._sizes[entries] = sum(state_bytes_by_part(self._model, every_byte_a_chunk, entries).values())
        return num_sequences * self._sizes[entries]

    def fits(self, num_sequences: int, longest: int) -> bool:
        return self.state_bytes(num_sequences, longest) <= self.num_bytes
