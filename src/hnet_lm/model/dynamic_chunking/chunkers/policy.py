"""Boundaries as actions of a policy, learned by policy gradient (arXiv 2602.13940):

    l_t = w . x_t + v a_{t-1} + b,  p_t = sigmoid(l_t),  a_t ~ Bernoulli(p_t) in training

x_t is the vector of the outermost encoder and a_{t-1} the last action. The first position of a sequence is a boundary
without anybody's decision. Outside training a_t = p_t > threshold, or a draw that hangs on a seed and the position's
index alone, so that a sequence may be cut into calls anywhere. No probability looks at later bytes.

A second head, early_exit(x_t), guesses the next byte before there are chunks. What the chunks add to that guess is the
reward, see the loss terms `policy`, `early_exit` and `target_rate`, which a run needs. In the source nothing but the
policy gradient passes through the actions: `"chunking": [{"smoothing": "none", "confidence": "none"}]`.
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from hnet_lm.checks import require_choice, require_number, require_whole
from hnet_lm.chunker_config import ChunkerSite, LearnedChunkerConfig
from hnet_lm.errors import ConfigError
from hnet_lm.model.dynamic_chunking.chunker import Chunker, Routing
from hnet_lm.model.dynamic_chunking.chunkers.fixed import SeenState, before_each, positions_of
from hnet_lm.model.dynamic_chunking.chunkers.linear import STD, to_number
from hnet_lm.model.dynamic_chunking.chunkers.random import uniform
from hnet_lm.sequences import Sequences
from hnet_lm.state import State, consumed


@dataclass
class PolicyState(State):
    """How many positions of each sequence have been seen, and the action at the last one."""

    seen: SeenState
    last_action: Int[Tensor, " s"]


class PolicyChunker(Chunker):
    """p_t = sigmoid(w . x_t + v a_{t-1} + b), a_t a draw or p_t > threshold. State: `PolicyState`."""

    def __init__(self, d_model: int, vocab_size: int, config: "PolicyChunkerConfig"):
        super().__init__()
        self.config = config
        self.threshold = config.threshold
        self.weight = nn.Parameter(torch.empty(1, d_model))
        self.last_action_weight = nn.Parameter(torch.empty(1))
        self.bias = nn.Parameter(torch.empty(1))
        self.early_exit = nn.Linear(d_model, vocab_size, bias=False)

    def initialize(self) -> None:
        nn.init.normal_(self.weight, std=STD)
        nn.init.zeros_(self.last_action_weight)
        nn.init.constant_(self.bias, -math.log(self.config.start_ratio - 1))
        nn.init.normal_(self.early_exit.weight, std=STD)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: PolicyState | None = None
    ) -> tuple[Routing, PolicyState | None]:
        state = consumed(state, PolicyState)
        is_trained = self.training and torch.is_grad_enabled()
        positions, seen = positions_of(seqs, state and state.seen)
        is_first, last_action = positions == 0, state and state.last_action
        base = to_number(x, self.weight, self.bias)
        weight = self.last_action_weight.to(base.dtype)
        with torch.no_grad():
            limit = self._limit(base, positions, is_trained)
            after_none, after_one = (torch.sigmoid(base + weight * action) > limit for action in (0, 1))
            actions = _played(after_none | is_first, after_one | is_first, seqs, last_action)
            before, last = before_each(actions.to(torch.int64), seqs, last_action, 0)
        logit = base + weight * before
        p = torch.sigmoid(logit).masked_fill(is_first, 1.0)
        early = self.early_exit(x) if is_trained else None
        routing = Routing(p, actions, seqs, boundary_logit=logit, early_exit=early)
        return routing, None if seen is None or last is None else PolicyState(seen, last)

    def _limit(self, base: Float[Tensor, " t"], positions: Int[Tensor, " t"], is_trained: bool) -> Tensor:
        """What p must be above for a boundary: a threshold, or a uniform number of each position."""
        if is_trained:
            return torch.rand_like(base)
        if self.config.decide == "sample":
            return uniform(self.config.seed, positions).to(base.dtype)
        return base.new_full((1,), self.threshold)

    def new_state(self, num_sequences: int, device: torch.device | None = None) -> PolicyState:
        device = device or self.weight.device
        return PolicyState(
            SeenState.new(num_sequences, device), torch.zeros(num_sequences, dtype=torch.int64, device=device)
        )


def _played(
    after_none: Bool[Tensor, " t"], after_one: Bool[Tensor, " t"], seqs: Sequences, last: Int[Tensor, " s"] | None
) -> Bool[Tensor, " t"]:
    """The actions, where each is `after_one` if the one before it was a boundary, else `after_none`; all at once.

    Where both are equal, the action is known. From there on each position either repeats the action before it or
    turns it over, so an action is the last known one, turned over as often as there were turns since.
    """
    if last is not None:
        active = seqs.nonempty_only()
        chosen = torch.where(active.owned(last) > 0, after_one[active.starts], after_none[active.starts])
        after_none, after_one = (column.index_copy(0, active.starts, chosen) for column in (after_none, after_one))
    is_known = after_none == after_one  # a first position is
    index = torch.arange(len(after_none), device=after_none.device)
    known = torch.where(is_known, index, 0).cummax(0).values if len(index) else index
    turns = (after_none & ~after_one).cumsum(0)
    return after_none[known] ^ ((turns - turns[known]) % 2 == 1)


@dataclass(frozen=True)
class PolicyChunkerConfig(LearnedChunkerConfig):
    """A policy that the loss terms `policy`, `early_exit` and `target_rate` train; of the outermost stage alone."""

    start_ratio: float = 5.0
    """Bytes per chunk with which it starts: the bias is the logit of its inverse."""
    decide: Literal["threshold", "sample"] = "threshold"
    """How it cuts outside training."""
    seed: int = 0
    """Of the draws outside training."""
    needs_terms: ClassVar[tuple[str, ...]] = ("policy", "early_exit", "target_rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        require_number("chunkers.policy.start_ratio", self.start_ratio, above=1)
        require_choice("chunkers.policy.decide", self.decide, ("threshold", "sample"))
        require_whole("chunkers.policy.seed", self.seed, 0, 2**31 - 1)

    def build(self, site: ChunkerSite) -> PolicyChunker:
        if site.stage > 0:
            raise ConfigError(
                f"chunkers, entry {site.stage}: 'policy' is rewarded for bytes, which only the outermost stage has"
            )
        return PolicyChunker(site.d_model, site.eos_id + 1, self)

    def flops_per_position(self, site: ChunkerSite) -> float:
        """A row, and the early exit, which only training computes."""
        return 2 * site.d_model + 2 * site.d_model * (site.eos_id + 1)
