"""A text as vectors: one per byte, and one per chunk of the innermost stage.

The vector of a byte is the input of the head at its position, which depends on all bytes up to and including it. The
vector of a chunk is the output of the innermost main network, which has read the chunk's first byte and all before it.
The text is read in pieces and the state is carried, so it may have any length.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hnet_lm.generation.params import as_bytes
from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences

PIECE_BYTES = 8192
Pooling = Literal["mean", "last"]


@dataclass(frozen=True)
class Embeddings:
    """Vectors on the CPU. Without chunking (an isotropic model) every byte is a chunk of its own."""

    bytes: Float[Tensor, "t d"]
    """One vector per byte, as wide as the outermost stage."""
    chunks: Float[Tensor, "c d_inner"]
    """One vector per chunk of the innermost stage, as wide as that; their mean is a vector of the text."""
    chunk_starts: Int[Tensor, " c"]
    """The first byte of each chunk; 0 for the first one, even if the model includes BOS in it."""

    def pooled(self, start: int, end: int, how: Pooling) -> tuple[Float[Tensor, " d"], Float[Tensor, " d_inner"]]:
        """A vector for bytes `start .. end - 1`, and one for the chunks that start there, or if none does, for the one
        that extends into them. `mean` averages, `last` takes the last. Raises ValueError for an empty range."""
        if not 0 <= start < end <= len(self.bytes):
            raise ValueError(f"bytes {start} to {end} of {len(self.bytes)} are not a range to pool")
        first, stop = torch.searchsorted(self.chunk_starts, torch.tensor([start, end])).tolist()
        first = min(first, stop - 1)
        rows, chunks = self.bytes[start:end].float(), self.chunks[first:stop].float()
        return (rows.mean(0), chunks.mean(0)) if how == "mean" else (rows[-1], chunks[-1])


@torch.no_grad()
def embed(model: HNetLM, text: str | bytes, *, piece_bytes: int = PIECE_BYTES) -> Embeddings:
    """Embed a text (after BOS, which gets no vector)."""
    data = as_bytes(text, "text")
    ids = torch.tensor([model.config.bos_id, *data], device=model.device)
    state = model.new_state(1)
    positions: list[Tensor] = []
    starts: list[Tensor] = []
    num_read = 0
    with _outputs_of(model.innermost) as chunks:
        for piece in ids.split(piece_bytes):
            seqs = Sequences.from_lengths([len(piece)], device=model.device)
            out = model(piece, seqs, state)
            state = out.state
            positions.append(out.hidden.cpu())
            places = torch.arange(num_read, num_read + len(piece), device=model.device)
            for routing in out.routings:
                places = places[routing.is_boundary]
            starts.append(places.cpu())
            num_read += len(piece)
    first_bytes, vectors = torch.cat(starts) - 1, torch.cat(chunks)
    if len(first_bytes) == 1 or first_bytes[1] > 0:  # BOS and the first byte are one chunk
        first_bytes[0] = 0
    is_of_text = (first_bytes >= 0) & (first_bytes < len(data))
    return Embeddings(torch.cat(positions)[1:], vectors[is_of_text], first_bytes[is_of_text])


@contextmanager
def _outputs_of(network: nn.Module) -> Iterator[list[Tensor]]:
    """Collects what a network returns while the block runs."""
    found: list[Tensor] = []

    def collect(module: nn.Module, inputs: Any, outputs: Any) -> None:
        found.append(outputs[0].cpu())

    handle = network.register_forward_hook(collect)
    try:
        yield found
    finally:
        handle.remove()
