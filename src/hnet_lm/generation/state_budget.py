"""How many bytes of state a set of sequences can come to, before it does.

Mamba-2, routing, smoothing and upsampling carry a fixed number of bytes a sequence. An attention layer carries keys and
values of the positions it still sees, in a buffer as long for every sequence as for the longest. How many chunks a text
will have is not known before; every byte could be one, so that is what is reckoned with.
"""

from hnet_lm.model import HNetLM
from hnet_lm.model.mixers import Attention

# An attention buffer grows by half or to what is needed, whichever is more, in steps of 64 entries.
_GROWTH_STEP = 64


class StateBudget:
    """Whether the state of so many sequences, the longest of so many positions, stays within `num_bytes`."""

    def __init__(self, model: HNetLM, num_bytes: int) -> None:
        self.num_bytes = num_bytes
        self._fixed = model.new_state(num_sequences=1).num_bytes
        layers = [module for module in model.modules() if isinstance(module, Attention)]
        self._layers = [(_entry_bytes(layer), layer.window_size) for layer in layers]

    def state_bytes(self, num_sequences: int, longest: int) -> int:
        """The state can never be larger than this. (While sequences join or leave, a copy exists for a moment.)"""
        entries = -(-(longest + longest // 2) // _GROWTH_STEP) * _GROWTH_STEP
        keys_and_values = sum(
            size * (entries if window < 0 else min(entries, window + 1)) for size, window in self._layers
        )
        return num_sequences * (self._fixed + keys_and_values)

    def fits(self, num_sequences: int, longest: int) -> bool:
        return self.state_bytes(num_sequences, longest) <= self.num_bytes


def _entry_bytes(layer: Attention) -> int:
    weight = layer.qkv_proj.weight
    return 2 * layer.num_heads * layer.head_dim * weight.element_size()
