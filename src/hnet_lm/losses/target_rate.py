"""What holds a policy at its rate of boundaries (arXiv 2602.13940):

    L = mean_t(l_t) sg[G - 1/N]

l_t is the logit of a boundary, G the mean boundary probability, N the bytes per chunk aimed at. Too high a rate pushes
all logits down alike, too low a one up, by as much as it is off: the gradient of a logit does not hang on the logit
itself, so decisions that are sure move as fast as others. The value has no meaning, its gradient has. First positions,
which nobody decides, do not count.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hnet_lm.checks import require_number
from hnet_lm.config import HNetConfig
from hnet_lm.losses.term import LossInputs, LossTerm, require_given, require_learned


@dataclass(frozen=True)
class TargetRate(LossTerm):
    """mean(l) sg[G - 1/N] of the outermost stage; the weight of the source. For chunkers `policy` and `linear`."""

    reads_progress: ClassVar[bool] = False
    weight: float = field(default=0.01, kw_only=True)
    target_ratio: float = 5.0
    """N: bytes per chunk."""

    def __post_init__(self) -> None:
        require_number("loss.terms.target_rate.target_ratio", self.target_ratio, above=1)

    def check(self, model: HNetConfig) -> None:
        require_learned(model, 0, "target_rate")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        routing = inputs.routing(0)
        logit = require_given(routing.boundary_logit, "target_rate")
        is_decided = inputs.seqs.positions > 0
        number = is_decided.sum().clamp(min=1)
        prob = torch.where(is_decided, routing.boundary_prob.detach(), 0.0)
        off = prob.sum() / number - 1 / self.target_ratio
        return {"stage0/target_rate": torch.where(is_decided, logit, 0.0).sum() / number * off}
