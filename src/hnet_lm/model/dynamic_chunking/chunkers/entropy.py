"""Boundaries where the next byte is hard to guess, as in the Byte Latent Transformer (arXiv 2412.09871).

    b_t = H(next byte | bytes before t) > threshold,  H in bits

The bytes are guessed by a small byte model, trained beforehand, which is a part of this chunker: its weights are saved
with the model's, are never trained, and it runs in its own precision, so that training and generation cut alike.
"""

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hnet_lm.checks import require_number
from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, before_each
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


@dataclass
class EntropyState(State):
    """The byte model's state, and the entropy of its guess of the byte to come (infinite before the first)."""

    byte_model: State
    entropy: Float[Tensor, " s"]


class EntropyChunker(FixedChunker):
    """b_t = entropy of the guess of byte t > threshold. State: `EntropyState`."""

    def __init__(self, threshold: float, byte_model: nn.Module):
        super().__init__()
        self.threshold = threshold
        self.byte_model: Any = byte_model.requires_grad_(False)

    @torch.no_grad()
    def cut(self, seqs: Sequences, state: EntropyState | None) -> tuple[Bool[Tensor, " t"], EntropyState | None]:
        ids = seqs.require_input_ids("the 'entropy' chunker")
        with torch.autocast(ids.device.type, enabled=False):
            out = self.byte_model(ids, seqs, state and state.byte_model)
        before, last = before_each(entropy_in_bits(out.logits), seqs, state and state.entropy, math.inf)
        return before > self.threshold, None if last is None else EntropyState(out.state, last)

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> EntropyState:
        return EntropyState(
            self.byte_model.new_state(num_sequences), torch.full((num_sequences,), math.inf, device=device)
        )


def entropy_in_bits(logits: Float[Tensor, "t v"]) -> Float[Tensor, " t"]:
    """Of the distribution that the logits of each row mean, in at least float32."""
    log_probs = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    return -(log_probs.exp() * log_probs).sum(-1) / math.log(2)


@dataclass(frozen=True)
class EntropyChunkerConfig(ChunkerConfig):
    """A boundary where a byte model (the configuration's `byte_model`) was unsure of the byte: entropy above
    `threshold`, in bits."""

    threshold: float = 2.0
    reads_bytes: ClassVar[bool] = True
    asks_byte_model: ClassVar[bool] = True

    def __post_init__(self) -> None:
        require_number("chunkers.entropy.threshold", self.threshold, 0, 16)  # bits

    def build(self, site: ChunkerSite) -> EntropyChunker:
        return EntropyChunker(self.threshold, site.byte_model)
