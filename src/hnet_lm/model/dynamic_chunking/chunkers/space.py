"""Boundaries at spaces: the rule of SpaceByte, as the paper's H-Net (space) uses it.

A byte is spacelike if it is neither a letter, a digit nor a UTF-8 continuation byte: below '0', between '9' and 'A',
between 'Z' and 'a', between 'z' and 0x80, or from 0xC0 on. A spacelike byte starts a chunk unless it follows another
one; so does BOS. The word after a space lies in the space's chunk.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from hnet_lm.chunker_config import ChunkerConfig, ChunkerSite
from hnet_lm.model.dynamic_chunking.chunkers.fixed import FixedChunker, before_each
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

NOTHING = -1
BYTES_PER_CHUNK = 6.0  # of English, as the paper's table 1 gives them


@dataclass
class SpaceState(State):
    """The last byte of each sequence; -1 where none has been seen."""

    last_id: Int[Tensor, " s"]


class SpaceChunker(FixedChunker):
    """b_t = t is first, or BOS, or spacelike behind one that is not. State: the last byte (`SpaceState`)."""

    def __init__(self, bos_id: int):
        super().__init__()
        self.bos_id = bos_id

    def cut(self, seqs: Sequences, state: SpaceState | None) -> tuple[Bool[Tensor, " t"], SpaceState | None]:
        ids = seqs.require_input_ids("the 'space' chunker")
        before, last_id = before_each(ids, seqs, state and state.last_id, NOTHING)
        is_boundary = (before == NOTHING) | (ids == self.bos_id) | (is_spacelike(ids) & ~is_spacelike(before))
        return is_boundary, None if last_id is None else SpaceState(last_id)

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> SpaceState:
        return SpaceState(torch.full((num_sequences,), NOTHING, dtype=torch.int64, device=device))


def is_spacelike(ids: Int[Tensor, " t"]) -> Bool[Tensor, " t"]:
    """Not a letter, digit or continuation byte (of UTF-8)."""
    is_digit = (ids >= ord("0")) & (ids <= ord("9"))
    is_letter = ((ids >= ord("A")) & (ids <= ord("Z"))) | ((ids >= ord("a")) & (ids <= ord("z")))
    is_continuation = (ids >= 0x80) & (ids < 0xC0)
    return ~(is_digit | is_letter | is_continuation)


@dataclass(frozen=True)
class SpaceChunkerConfig(ChunkerConfig):
    """A boundary at BOS and at every spacelike byte that does not follow another one (SpaceByte)."""

    reads_bytes: ClassVar[bool] = True

    def build(self, site: ChunkerSite) -> SpaceChunker:
        return SpaceChunker(site.bos_id)

    @property
    def nominal_ratio(self) -> float:
        return BYTES_PER_CHUNK
