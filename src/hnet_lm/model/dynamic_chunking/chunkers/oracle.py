"""Boundaries that somebody gives: a tokenizer's, a linguist's, those of another model.

    seqs = Sequences.from_lengths(lengths).with_boundaries(is_boundary);  model(input_ids, seqs)

They may depend on what comes later in the text, which no chunker that generates can: a bound on what boundaries can do.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool
from torch import Tensor

from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, SeenState, positions_of
from hnet_lm.sequences import Sequences


class OracleChunker(FixedChunker):
    """b_t as given, and the first position of a sequence. State: positions seen (`SeenState`)."""

    def cut(self, seqs: Sequences, state: SeenState | None) -> tuple[Bool[Tensor, " t"], SeenState | None]:
        if seqs.boundaries is None:
            raise ConfigError("the 'oracle' chunker is given no boundaries: call with Sequences.with_boundaries(...)")
        positions, state = positions_of(seqs, state)
        return seqs.boundaries | (positions == 0), state

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SeenState:
        return SeenState.new(num_sequences, device)


@dataclass(frozen=True)
class OracleChunkerConfig(ChunkerConfig):
    """The boundaries that the caller gives with the sequences."""

    reads_bytes: ClassVar[bool] = True

    def build(self, site: ChunkerSite) -> OracleChunker:
        return OracleChunker()
