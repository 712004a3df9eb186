"""Hashed n-gram embeddings: what a position knows of the bytes before it, without a layer.

    e_t = x_t + sum over n of table_n[hash(b_{t-n+1} .. b_t) mod R],   x_t the embedding of byte b_t

An n-gram that would begin before its sequence adds nothing. The hash is a polynomial in a constant a,

    hash(b_{t-n+1} .. b_t) = upper 32 bits of (sum over j < n of (b_{t-j} + 1) a^{j+1}) mod 2^64

The lower bits of the sum depend on the lower bits of the bytes alone, and a number of rows R that is a power of two
would see no others. (BLT, arXiv 2412.09871, section 3.2.1, with the rolling hash of its appendix C. It takes the mean
over the tables and the byte, where the sum here keeps the scale of the plain embedding.)

The tables start at 0. So e_t begins as the plain embedding, with its variance at every position and for any number of
tables, and a table adds what it has learned: little for a row that training has rarely met. A table that was drawn
would add noise of the size of the embedding to every position, and rows that are rarely met would keep it.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from hnet_lm.ngram_config import NgramConfig
from hnet_lm.sequences import Sequences
from hnet_lm.state import State, consumed

NOTHING = -1
"""In the place of a byte before the beginning of a sequence: it adds nothing to a hash."""
MULTIPLIER = 0x9E3779B97F4A7C15 - 2**64
"""a: 2^64 over the golden ratio, as a signed number; its powers spread over all bits (Knuth, vol. 3, 6.4)."""


@dataclass
class NgramState(State):
    """The last bytes of each sequence, one fewer than the longest n-gram has, the newest last; -1 for none."""

    last_ids: Int[Tensor, "s m"]


class HashedNgrams(nn.Module):
    """x + sum of the vectors of the n-grams that end at each position. State: the last bytes (`NgramState`)."""

    def __init__(self, config: NgramConfig, d_model: int):
        super().__init__()
        self.config = config
        rows = torch.zeros(len(config.sizes) * config.num_rows, d_model)
        self.embedding = nn.EmbeddingBag.from_pretrained(rows, freeze=False, mode="sum")

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: NgramState | None = None
    ) -> tuple[Float[Tensor, "t d"], NgramState | None]:
        state = consumed(state, NgramState)
        rows, is_there, last_ids = self.rows(seqs, state and state.last_ids)
        x = x + self.embedding(rows, per_sample_weights=is_there.to(x.dtype))
        return x, None if last_ids is None else NgramState(last_ids)

    def rows(
        self, seqs: Sequences, last_ids: Int[Tensor, "s m"] | None
    ) -> tuple[Int[Tensor, "t k"], Tensor, Int[Tensor, "s m"] | None]:
        """Of each position the row of each of the k sizes, whether there is such an n-gram, and the last ids after."""
        ids, num_before = seqs.require_input_ids("ngrams"), self.config.sizes[-1] - 1
        before = ids.new_full((seqs.num_sequences, num_before), NOTHING) if last_ids is None else seqs.owned(last_ids)
        # Each sequence with its last ids laid before it: then the byte before any one is the one to its left.
        places = torch.arange(len(ids), device=ids.device) + num_before * (seqs.sequence_ids + 1)
        ends = seqs.cu_seqlens[1:] + num_before * torch.arange(1, len(before) + 1, device=ids.device)
        window = torch.arange(-num_before, 0, device=ids.device)
        all_ids = ids.new_empty(len(ids) + before.numel())
        all_ids[places] = ids
        all_ids[(ends - seqs.lengths)[:, None] + window] = before
        hashed, power, rows, is_there = torch.zeros_like(ids), 1, [], []
        for back in range(num_before + 1):
            power = _wrapped(power * MULTIPLIER)
            byte = all_ids[places - back]
            hashed = hashed + (byte + 1) * power
            if back + 1 in self.config.sizes:
                first_row = len(rows) * self.config.num_rows
                rows.append(first_row + (hashed >> 32) % self.config.num_rows)
                is_there.append(byte != NOTHING)
        if last_ids is not None:
            last_ids = seqs.replaced(last_ids, all_ids[ends[:, None] + window])
        return torch.stack(rows, 1), torch.stack(is_there, 1), last_ids

    def new_state(self, num_sequences: int) -> NgramState:
        device = self.embedding.weight.device
        return NgramState(torch.full((num_sequences, self.config.sizes[-1] - 1), NOTHING, device=device))


def _wrapped(number: int) -> int:
    """The number modulo 2^64, as a signed one of 64 bits."""
    return (number + 2**63) % 2**64 - 2**63
