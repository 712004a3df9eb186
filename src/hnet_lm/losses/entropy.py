"""Boundaries where the model is least sure of the next byte, as BLT cuts (arXiv 2412.09871), but learned by the router:

    L = mean_t (y_t - p_t)^2,   y_t = 1 where H_t is among the largest r of the micro-batch, else 0
    r_{u+1} = clamp(r_u exp(gain (1 - N F_u)), 1 / (4 N), 1/2)

H_t is the entropy of the model's own distribution of the byte behind position t, without gradient; p_t the boundary
probability of the outermost stage. BLT asks a second model and a threshold where to cut; here the H-Net is the judge
in training alone, and the router foresees its judgement from what has been read up to t. A router that is unsure cuts
too seldom, so the fraction r is controlled by the fraction of boundaries F_u of the update before, and bytes per chunk
arrive at N. Set `loss.ratio_loss_weight` to 0 beside it. The mean is over positions that have a target.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.checks import require_number
from hnet_lm.config import HNetConfig
from hnet_lm.losses.term import LossInputs, LossTerm, require_learned
from hnet_lm.sequences import IGNORE_INDEX


@dataclass(frozen=True)
class EntropyBoundaries(LossTerm):
    """(1[H_t among the largest r] - p_t)^2 of the outermost stage. Memory: r."""

    reads_progress: ClassVar[bool] = False
    target_ratio: float
    """N: bytes per chunk."""
    gain: float = 0.02
    """How fast r follows: an update that cuts twice too often changes log r by so much."""

    def __post_init__(self) -> None:
        require_number("loss.terms.entropy.target_ratio", self.target_ratio, above=1)
        require_number("loss.terms.entropy.gain", self.gain, above=0, most=1)

    def check(self, model: HNetConfig) -> None:
        require_learned(model, 0, "entropy")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        p = inputs.routing(0).boundary_prob
        has_target = inputs.targets != IGNORE_INDEX
        is_unsure = most_unsure(inputs.logits.detach(), has_target, inputs.memory["fraction"])
        errors = torch.where(has_target, (is_unsure.to(p.dtype) - p).square(), 0.0)
        return {"stage0/entropy": errors.sum() / has_target.sum().clamp(min=1)}

    def new_memory(self) -> dict[str, float]:
        return {"fraction": 1 / self.target_ratio}

    def remember(self, memory: Mapping[str, float], boundary_fractions: Sequence[float]) -> dict[str, float]:
        error = 1 - self.target_ratio * boundary_fractions[0]
        fraction = memory["fraction"] * math.exp(self.gain * error)
        return {"fraction": min(0.5, max(0.25 / self.target_ratio, fraction))}


def most_unsure(logits: Float[Tensor, "t v"], counts: Bool[Tensor, " t"], fraction: float) -> Bool[Tensor, " t"]:
    """The positions of highest entropy: this fraction of those that count."""
    log_prob = logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)
    entropy = torch.where(counts, -(log_prob.exp() * log_prob).sum(-1), -math.inf)
    rank = entropy.argsort(descending=True, stable=True).argsort()
    return (rank < fraction * counts.sum()) & counts
