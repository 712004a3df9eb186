"""Policy gradient for boundaries that are drawn (arXiv 2602.13940):

    R_t = log p(x_{t+1} | x_1 .. x_t, actions up to t) - log p_early(x_{t+1} | x_1 .. x_t)
    A_t = sum over j >= t of gamma^(j - t) R_j, centred
    L = -mean_t log pi(a_t) sg[A_t]

pi(a_t) is the probability of the action taken, a cut or none. The reward of a byte is what the chunks add to the guess
of the early-exit head (`early_exit`), and a boundary is credited with the rewards of the bytes behind it, of the same
sequence, the nearest ones most. The mean of A over the micro-batch, or over its positions of the same index, is taken
off. Neither reward nor advantage has a gradient. The mean is over positions that were decided: all but first ones.
"""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import logsigmoid

from hnet_lm.checks import require_choice, require_number
from hnet_lm.config import HNetConfig
from hnet_lm.losses.term import LossInputs, LossTerm, require_given, require_needed_by_chunker
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.sequences import IGNORE_INDEX, Sequences


@dataclass(frozen=True)
class PolicyGradient(LossTerm):
    """-log pi(a_t) sg[A_t] of the outermost stage; weight and gamma of the source."""

    reads_progress: ClassVar[bool] = False
    weight: float = field(default=0.01, kw_only=True)
    gamma: float = 0.99
    """How much a reward counts one byte further back."""
    centred: Literal["batch", "position"] = "batch"
    """What is taken off A: its mean over the micro-batch, or over the positions of the same index, of which long
    sequences have few."""

    def __post_init__(self) -> None:
        require_number("loss.terms.policy.gamma", self.gamma, 0, below=1)
        require_choice("loss.terms.policy.centred", self.centred, ("batch", "position"))

    def check(self, model: HNetConfig) -> None:
        require_needed_by_chunker(model, "policy")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        routing, positions = inputs.routing(0), inputs.seqs.positions
        logit = require_given(routing.boundary_logit, "policy")
        early = require_given(routing.early_exit, "policy")
        is_decided = positions > 0
        with torch.no_grad():
            rewards = log_prob(inputs.logits, inputs.targets) - log_prob(early, inputs.targets)
            returns = discounted(rewards.to(logit.dtype), inputs.seqs, self.gamma)
            groups, num_groups = torch.zeros_like(positions), 1
            if self.centred == "position":
                groups, num_groups = positions, inputs.seqs.max_length
            advantages = centred(returns, is_decided, groups, num_groups)
        log_pi = logsigmoid(torch.where(routing.is_boundary, logit, -logit))
        chosen = torch.where(is_decided, log_pi * advantages, 0.0)
        return {"stage0/policy": -chosen.sum() / is_decided.sum().clamp(min=1)}


def log_prob(logits: Float[Tensor, "t v"], targets: Int[Tensor, " t"]) -> Float[Tensor, " t"]:
    """log p of each target; 0 where there is none."""
    has_target = targets != IGNORE_INDEX
    wide = logits.to(torch.promote_types(logits.dtype, torch.float32))
    found = wide.log_softmax(-1).gather(1, torch.where(has_target, targets, 0)[:, None])[:, 0]
    return torch.where(has_target, found, 0.0)


def discounted(rewards: Float[Tensor, " t"], seqs: Sequences, gamma: float) -> Float[Tensor, " t"]:
    """sum over j >= t of gamma^(j - t) R_j, within each sequence."""
    backwards = Sequences.from_lengths(seqs.host_lengths[::-1], device=seqs.device)
    share = rewards.new_full((len(rewards),), 1 - gamma)
    sums, _ = ema_scan(rewards.flip(0)[:, None] / (1 - gamma), share, backwards)
    return sums[:, 0].flip(0)


def centred(
    values: Float[Tensor, " t"], counts: Bool[Tensor, " t"], groups: Int[Tensor, " t"], num_groups: int
) -> Float[Tensor, " t"]:
    """Less the mean of the values that count in the same group."""
    sums, numbers = (
        values.new_zeros(num_groups).index_add(0, groups, torch.where(counts, column, 0.0))
        for column in (values, torch.ones_like(values))
    )
    return values - (sums / numbers.clamp(min=1))[groups]
