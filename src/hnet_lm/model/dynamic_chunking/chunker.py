"""What cuts a stage: the call that the routing module has, and whatever stands in its place, and what it decides."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from hnet_lm.sequences import Sequences
from hnet_lm.state import State


@dataclass(frozen=True)
class Routing:
    """The decisions of one stage, packed as `seqs` says; padded to `(b, l)` where the model's input was."""

    boundary_prob: Float[Tensor, "*t"]
    is_boundary: Bool[Tensor, "*t"]
    seqs: Sequences
    valid: Bool[Tensor, "*t"] | None = None
    """Which entries are positions and not padding; None: all."""
    is_learned: bool = True
    """False where a rule decided and no routing module: then there is nothing for a ratio loss to steer."""
    boundary_logit: Float[Tensor, "*t"] | None = None
    """log(p / (1 - p)) as the chunker computed it, of one that is trained by terms that need it; without the certainty
    of a first position."""
    early_exit: Float[Tensor, "*t v"] | None = None
    """Logits of the byte after each position by a head that sees no chunk; in training, of a chunker that has one."""
    chunks: Float[Tensor, "c d_inner"] | None = None
    """What enters the network inside this stage, packed, one vector per boundary; in training alone."""

    @property
    def confidence(self) -> Float[Tensor, "*t"]:
        """c: the probability of the decision taken."""
        return torch.where(self.is_boundary, self.boundary_prob, 1 - self.boundary_prob)

    def over_positions(self, function: Callable[[Tensor], Tensor], **changes: Any) -> "Routing":
        """With a function applied to every tensor that has one row per position."""
        named = ("boundary_prob", "is_boundary", "boundary_logit", "early_exit")
        tensors = {name: getattr(self, name) for name in named}
        rows = {name: None if tensor is None else function(tensor) for name, tensor in tensors.items()}
        return replace(self, **rows, **changes)


class Chunker(nn.Module, ABC):
    """Says of each position whether a chunk starts there, from this position and those before it alone.

    The first position of a sequence must be a boundary. The state holds all that is needed of the positions before, so
    that a sequence may be cut into calls anywhere (`hnet_lm.testing.check_chunker`).
    """

    threshold: float = 0.5
    """A position is a boundary where its probability is above this."""

    @abstractmethod
    def forward(self, x: Float[Tensor, "t d"], seqs: Sequences, state: Any = None) -> tuple[Routing, State | None]:
        """The routing, and the state after the last position (None without one); the given state is consumed."""

    @abstractmethod
    def new_state(self, num_sequences: int, device: torch.device | None = None) -> State:
        """The state of sequences of which nothing has been seen yet."""

    def initialize(self) -> None:
        """Draw or set the weights as they start; without this they stay as the constructor made them."""
