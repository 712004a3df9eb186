"""Smoothing of what enters the main network, over the positions of the stage and not over its chunks:

    x_i = c_i x_hat_i + (1 - c_i) x_{i-1},  c the confidence of each decision

(SOMBRERO, arXiv 2601.22805, byte-level smoothing.) The downsampler keeps x at the boundaries, so the vector of a chunk
carries something of the positions around which the router was unsure, and every such position passes a gradient to its
own probability, also where nothing was cut. Behind the main network nothing is blended. c is clamped and the recurrence
runs in float32 as in the smoothing of chunks.
"""

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor

from hnet_lm.model.dynamic_chunking.chunker import Routing
from hnet_lm.model.dynamic_chunking.smoothing import Smoothing, SmoothingState, blended
from hnet_lm.sequences import Sequences
from hnet_lm.state import consumed


class ByteSmoothing(Smoothing):
    """x_i = c_i x_hat_i + (1 - c_i) x_{i-1}. State: the last x (`SmoothingState`)."""

    is_before_main_network: ClassVar[bool] = True

    def forward(
        self, x_hat: Float[Tensor, "t d"], routing: Routing, seqs: Sequences, state: SmoothingState | None = None
    ) -> tuple[Float[Tensor, "t d"], SmoothingState | None]:
        return blended(x_hat, routing.confidence, seqs, consumed(state, SmoothingState))
