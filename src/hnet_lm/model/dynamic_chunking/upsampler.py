"""The upsampler: every position takes the vector of the chunk it lies in, weighed by the confidence of its routing.

    y_t = ste(c_t) z_{cumsum(b)_t - 1}

ste(c) has the value 1 and the gradient of c, so a decision that helped becomes more certain.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import pad

from hnet_lm.model.dynamic_chunking.routing import Routing
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
        if state is not None and seqs.max_length <= 1:  # each position lies in the newest chunk of its sequence
            # A copy: z itself may have become the state of the smoothing module, which is changed where it lies.
            chunk = inner_seqs.nonempty_only().replaced(state.chunk, z.clone())
            return _weigh(seqs.nonempty_only().owned(chunk).to(z.dtype), routing), UpsamplerState(chunk)
        count = routing.is_boundary.cumsum(0)  # t: boundaries up to and with each position
        rows = count - 1
        if state is not None:
            # Before its first boundary in this span a position still lies in the chunk that was carried.
            count_before = pad(count, (1, 0))[seqs.starts][seqs.sequence_ids]
            rows = torch.where(count > count_before, rows, len(z) + seqs.sequence_ids)
            carried = seqs.owned(state.chunk).to(z.dtype)
            active = inner_seqs.nonempty_only()
            state = UpsamplerState(active.replaced(state.chunk.clone(), z[active.cu_seqlens[1:] - 1]))
            z = torch.cat([z, carried])
        return _weigh(z[rows], routing), state

    def new_state(self, num_sequences: int, dtype: torch.dtype, device: torch.device) -> UpsamplerState:
        return UpsamplerState(torch.zeros(num_sequences, self.d_model, dtype=dtype, device=device))


def _weigh(z: Float[Tensor, "t d"], routing: Routing) -> Float[Tensor, "t d"]:
    return _StraightThrough.apply(z, routing.confidence) if torch.is_grad_enabled() else z


class _StraightThrough(torch.autograd.Function):
    """z * ste(c): z itself, with the gradient of z * c for c and of z for z."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, confidence: Tensor) -> Tensor:
        ctx.save_for_backward(z)
        return z.view_as(z)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        (z,) = ctx.saved_tensors
        return grad, (grad * z).sum(-1)
