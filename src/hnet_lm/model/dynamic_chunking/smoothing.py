"""The smoothing module: an unsure boundary blends its chunk with those before it.

    z_t = P_t inner_t + (1 - P_t) z_{t-1},  P the boundary probability of each chunk

It turns the hard choice of where to cut into something gradients can pass. P is clamped to [1e-4, 1 - 1e-4] and the
recurrence runs in float32.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.model.dynamic_chunking.chunker import Routing
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.rows import gather_rows
from hnet_lm.sequences import Sequences
from hnet_lm.state import State, consumed

MIN_PROB = 1e-4


@dataclass
class SmoothingState(State):
    """The last z of each sequence."""

    z: Float[Tensor, "s d"]


class SmoothingModule(nn.Module):
    """z_t = P_t inner_t + (1 - P_t) z_{t-1}. State: the last z (`SmoothingState`)."""

    def __init__(self, d_model: int):
        super().__init__()
        self.d_model = d_model

    def forward(
        self, inner: Float[Tensor, "c d"], routing: Routing, inner_seqs: Sequences, state: SmoothingState | None = None
    ) -> tuple[Float[Tensor, "c d"], SmoothingState | None]:
        state = consumed(state, SmoothingState)
        inner = inner.to(torch.promote_types(inner.dtype, torch.float32))
        p = gather_rows(routing.boundary_prob, inner_seqs.rows_of(routing.is_boundary)).clamp(MIN_PROB, 1 - MIN_PROB)
        z, final = ema_scan(inner, p, inner_seqs, state and state.z)
        return z, None if final is None else SmoothingState(final)

    def new_state(self, num_sequences: int, dtype: torch.dtype, device: torch.device) -> SmoothingState:
        return SmoothingState(torch.zeros(num_sequences, self.d_model, dtype=dtype, device=device))
