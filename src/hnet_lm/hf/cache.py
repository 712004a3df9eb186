"""What a model remembers of its sequences, as transformers' cache: `generate` carries it from byte to byte."""

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from transformers.cache_utils import Cache

from hnet_lm.state import State


class StateCache(Cache):
    """The state of a batch, and how many columns of the batch it has seen.

    It cannot be shortened: a recurrence does not run backwards. So `generate` does no assisted decoding.
    """

    def __init__(self, state: State | None = None, num_columns: int = 0) -> None:
        super().__init__(layers=[])
        self.state = state
        self.num_columns = num_columns

    def __repr__(self) -> str:
        return f"{type(self).__name__}(num_columns={self.num_columns})"

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """How many columns of the `(b, l)` batch have been read, those of padding among them."""
        return self.num_columns

    def get_max_length(self, layer_idx: int | None = None) -> int:
        """Without a bound."""
        return -1

    def reset(self) -> None:
        self.state, self.num_columns = None, 0

    def reorder_cache(self, beam_idx: Int[Tensor, " b"]) -> None:
        """Go on with these sequences, in this order; one may come twice."""
        if self.state is not None:
            self.state = self.state.select(beam_idx)

    def batch_select_indices(self, indices: Tensor) -> None:
        self.reorder_cache(indices)

    def batch_repeat_interleave(self, repeats: int) -> None:
        if self.state is not None:
            self.reorder_cache(torch.arange(self.state.num_sequences).repeat_interleave(repeats))

    def crop(self, tokens_to_remove: int) -> None:
        """Raises ValueError unless there is nothing to remove."""
        if tokens_to_remove:
            raise ValueError("the state of an H-Net cannot be shortened; keep a copy of the cache, or begin anew")

    def update(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("a StateCache holds the state of a whole model, not the keys and values of a layer")

    @property
    def batch_size(self) -> int:
        return -1 if self.state is None else self.state.num_sequences

    @property
    def is_croppable(self) -> bool:
        return False

    @property
    def is_linear(self) -> list[bool]:
        """As of one layer that knows its length, so that `generate` passes on only what is new."""
        return [False]
