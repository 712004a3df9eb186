"""The smoothing module: an unsure boundary blends its chunk with those before it.

    z_t = P_t inner_t + (1 - P_t) z_{t-1},  P the boundary probability of each chunk

It turns the hard choice of where to cut into something gradients can pass. P is clamped to [1e-4, 1 - 1e-4] and the
recurrence runs in float32. In its place may stand what blends the positions before the main network
(`byte_smoothing.py`), or nothing.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

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


class Smoothing(nn.Module, ABC):
    """What passes gradients through the choice of where to cut."""

    is_before_main_network: ClassVar[bool] = False
    """Whether its rows are the positions, before the downsampler; else the chunks, behind the main network."""

    def __init__(self, d_model: int):
        super().__init__()
        self.d_model = d_model

    @abstractmethod
    def forward(
        self, x: Float[Tensor, "n d"], routing: Routing, seqs: Sequences, state: SmoothingState | None = None
    ) -> tuple[Float[Tensor, "n d"], SmoothingState | None]:
        """The blended rows, which `seqs` divides into sequences; the state is consumed."""

    def new_state(self, num_sequences: int, dtype: torch.dtype, device: torch.device) -> SmoothingState:
        return SmoothingState(torch.zeros(num_sequences, self.d_model, dtype=dtype, device=device))


class SmoothingModule(Smoothing):
    """z_t = P_t inner_t + (1 - P_t) z_{t-1}. State: the last z (`SmoothingState`)."""

    def forward(
        self, inner: Float[Tensor, "c d"], routing: Routing, inner_seqs: Sequences, state: SmoothingState | None = None
    ) -> tuple[Float[Tensor, "c d"], SmoothingState | None]:
        p = gather_rows(routing.boundary_prob, inner_seqs.rows_of(routing.is_boundary))
        return blended(inner, p, inner_seqs, consumed(state, SmoothingState))


class NoSmoothing(Smoothing):
    """z = inner, as in the paper's ablation. State: nothing of any width."""

    def forward(
        self, inner: Float[Tensor, "c d"], routing: Routing, inner_seqs: Sequences, state: SmoothingState | None = None
    ) -> tuple[Float[Tensor, "c d"], SmoothingState | None]:
        return inner.to(torch.promote_types(inner.dtype, torch.float32)), consumed(state, SmoothingState)

    def new_state(self, num_sequences: int, dtype: torch.dtype, device: torch.device) -> SmoothingState:
        return SmoothingState(torch.zeros(num_sequences, 0, dtype=dtype, device=device))


def blended(
    x: Float[Tensor, "n d"], p: Float[Tensor, " n"], seqs: Sequences, state: SmoothingState | None
) -> tuple[Float[Tensor, "n d"], SmoothingState | None]:
    """z_t = p_t x_t + (1 - p_t) z_{t-1} in at least float32, with p clamped."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    z, final = ema_scan(x, p.clamp(MIN_PROB, 1 - MIN_PROB), seqs, state and state.z)
    return z, None if final is None else SmoothingState(final)
