"""At the door: `(batch, length)` input becomes packed sequences, and results go back to the caller's shape."""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.ops.checks import WHOLE_NUMBERS, require_plain
from hnet_lm.sequences import Sequences


class Padding:
    """How rows of `(b, l)` map to packed positions. The mask is true at positions, each row padded left or right."""

    def __init__(self, shape: torch.Size, mask: Bool[Tensor, "b l"] | Int[Tensor, "b l"] | None, device: torch.device):
        self.shape = shape
        self.mask = None
        lengths = [shape[1]] * shape[0]
        if mask is not None:
            require_plain("HNetLM", "attention_mask", mask)
            if mask.dtype not in (torch.bool, *WHOLE_NUMBERS) or mask.device.type == "meta":
                raise ValueError(f"attention_mask must be bools or 0 and 1, not {mask.dtype} on {mask.device}")
            if mask.shape != shape:
                raise ValueError(f"attention_mask is {tuple(mask.shape)}, but input_ids is {tuple(shape)}")
            self.mask = mask.to(device=device, dtype=torch.bool)
            if (self.mask[:, 1:] != self.mask[:, :-1]).sum(1).gt(1).any():
                raise ValueError("attention_mask has holes: each row must be padded on its left or on its right only")
            lengths = self.mask.sum(1).tolist()
        self.seqs = Sequences.from_lengths(lengths, device=device)

    def pack(self, x: Tensor) -> Tensor:
        """(b, l, ...) to (t, ...)."""
        return x.flatten(0, 1) if self.mask is None else x[self.mask]

    def unpack(self, x: Tensor) -> Tensor:
        """(t, ...) to (b, l, ...), zero where there is padding."""
        if self.mask is None:
            return x.unflatten(0, self.shape)
        return x.new_zeros(*self.shape, *x.shape[1:]).masked_scatter(
            self.mask.view(*self.shape, *[1] * (x.dim() - 1)), x
        )

    def unpack_routings(self, routings: tuple[Routing, ...]) -> tuple[Routing, ...]:
        """Stage 0 in the caller's own shape; inner stages padded on the right to their longest sequence."""
        outer = [self._unpack_routing(routing) for routing in routings[:1]]
        return *outer, *(_right_padded(routing)._unpack_routing(routing) for routing in routings[1:])

    def _unpack_routing(self, routing: Routing) -> Routing:
        return routing.over_positions(self.unpack, valid=self.mask)


def _right_padded(routing: Routing) -> Padding:
    seqs = routing.seqs
    mask = torch.arange(seqs.max_length, device=seqs.device) < seqs.lengths[:, None]
    return Padding(mask.shape, mask, seqs.device)
