"""What the chunkers that learn nothing share: a rule says where the boundaries are.

    b_t = rule(t),  p_t = b_t

With p of 1 and 0 the confidence is 1 everywhere and the smoothing is the identity, up to its clamp. A rule depends on
nothing after the position it decides about, and its state says all it needs of the positions before; so the laws of
split, ragged and empty sequences hold as they do for the routing module.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


class FixedChunker(Chunker):
    """The call of the routing module; subclasses are the rules."""

    def forward(self, x: Float[Tensor, "t d"], seqs: Sequences, state: Any = None) -> tuple[Routing, State | None]:
        is_boundary, state = self.cut(seqs, state and state.consume())
        p = is_boundary.to(torch.promote_types(x.dtype, torch.float32))
        return Routing(p, is_boundary, seqs, is_learned=False), state

    @abstractmethod
    def cut(self, seqs: Sequences, state: Any) -> tuple[Bool[Tensor, " t"], State | None]:
        """Where the boundaries are, and the state after the last position."""


@dataclass
class SeenState(State):
    """How many positions of each sequence have been seen."""

    num_seen: Int[Tensor, " s"]

    @classmethod
    def new(cls, num_sequences: int, device: torch.device | None) -> "SeenState":
        return cls(torch.zeros(num_sequences, dtype=torch.int64, device=device))


def positions_of(seqs: Sequences, state: SeenState | None) -> tuple[Int[Tensor, " t"], SeenState | None]:
    """The index of each position in its whole sequence, and the state after the last one."""
    if state is None:
        return seqs.positions, None
    num_seen = seqs.owned(state.num_seen)
    positions = seqs.positions + num_seen[seqs.sequence_ids]
    return positions, SeenState(seqs.replaced(state.num_seen, num_seen + seqs.lengths))


def first_positions(seqs: Sequences, has_seen: Bool[Tensor, " s"] | None) -> Bool[Tensor, " t"]:
    """Which positions are the first of their whole sequence; `has_seen` says of each slot whether it has had one."""
    active = seqs.nonempty_only()
    is_new = torch.ones_like(active.starts, dtype=torch.bool) if has_seen is None else ~active.owned(has_seen)
    nothing = torch.zeros(seqs.num_positions, dtype=torch.bool, device=seqs.device)
    return nothing.index_copy(0, active.starts, is_new)


def before_each(values: Tensor, seqs: Sequences, last: Tensor | None, nothing: float) -> tuple[Tensor, Tensor | None]:
    """The value of the position before each one (`nothing` where a sequence begins), and each sequence's last value.

    `last` are the values carried from before these positions, one a slot; None without a state.
    """
    active = seqs.nonempty_only()
    first = values.new_full((active.num_sequences,), nothing) if last is None else active.owned(last)
    before = pad(values, (1, 0))[:-1].index_copy(0, active.starts, first.to(values.dtype))
    if last is not None:
        last = active.replaced(last, values[active.cu_seqlens[1:] - 1])
    return before, last
