"""The upsampler: every position takes the vector of its chunk, weighed by the confidence of its routing.

    y_t = ste(c_t) z_{cumsum(b)_t - 1}

ste(c) has the value 1 and the gradient of c, so a decision that helped becomes more certain. Two subclasses weigh
otherwise, to compare: by c itself, and not at all.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hnet_lm.model.dynamic_chunking.chunker import Routing
from hnet_lm.ops.rows import repeat_rows, spread_rows
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


@dataclass
class UpsamplerState(State):
    """The vector of the chunk each sequence is in: later positions belong to it until the next boundary."""

    chunk: Float[Tensor, "s d"]


class Upsampler(nn.Module):
    """y_t = ste(c_t) z_{cumsum(b)_t - 1}. State: the current chunk's z (`UpsamplerState`)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.d_model = d_model

    def forward(
        self, z: Float[Tensor, "c d"], routing: Routing, inner_seqs: Sequences, state: UpsamplerState | None = None
    ) -> tuple[Float[Tensor, "t d"], UpsamplerState | None]:
        seqs = routing.seqs
        rows = routing.is_boundary.cumsum(0) - 1
        if state is not None:
            # Each sequence's carried chunk comes before its new ones: that of positions before the first boundary.
            carried = seqs.owned(state.consume().chunk).to(z.dtype)
            z = spread_rows(torch.cat([carried, z]), _carried_first(inner_seqs), len(carried) + len(z))
            rows = rows + seqs.sequence_ids + 1
            newest = inner_seqs.cu_seqlens[1:] + torch.arange(len(carried), device=z.device)
            state = UpsamplerState(seqs.replaced(state.chunk, z[newest]))
        y = repeat_rows(z, rows)
        return self.weighed(y, routing), state

    def weighed(self, y: Float[Tensor, "t d"], routing: Routing) -> Float[Tensor, "t d"]:
        """Each position's vector, weighed by its confidence."""
        return _StraightThrough.apply(y, routing.confidence) if torch.is_grad_enabled() else y

    def new_state(self, num_sequences: int, dtype: torch.dtype, device: torch.device) -> UpsamplerState:
        return UpsamplerState(torch.zeros(num_sequences, self.d_model, dtype=dtype, device=device))


class ConfidenceUpsampler(Upsampler):
    """y_t = c_t z_{cumsum(b)_t - 1}: without the straight-through estimator, as in the paper's ablation."""

    def weighed(self, y: Float[Tensor, "t d"], routing: Routing) -> Float[Tensor, "t d"]:
        return y * routing.confidence[:, None]


class UnweighedUpsampler(Upsampler):
    """y_t = z_{cumsum(b)_t - 1}: no gradient says whether a decision helped."""

    def weighed(self, y: Float[Tensor, "t d"], routing: Routing) -> Float[Tensor, "t d"]:
        return y


def _carried_first(seqs: Sequences) -> Int[Tensor, " b_plus_c"]:
    """Where the b carried chunks and the c new ones go, in that order, for each sequence to be together."""
    sequences = torch.arange(seqs.num_sequences, device=seqs.device)
    chunks = torch.arange(seqs.num_positions, device=seqs.device)
    return torch.cat([seqs.starts + sequences, chunks + seqs.sequence_ids + 1])


class _StraightThrough(torch.autograd.Function):
    """z * ste(c): z itself, with the gradient of z * c for c and of z for z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, confidence: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        (z,) = ctx.saved_tensors
        return grad, (grad * z).sum(-1)
