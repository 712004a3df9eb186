"""The CAB term of SOMBRERO (arXiv 2601.22805): boundaries where the next byte is hard to guess.

    L = mean_t (1 - sg[P_{t+1}] - p_t)^2

P_{t+1} is the model's probability of the true byte behind position t, clamped to [1e-6, 1 - 1e-6] and without
gradient; p_t the boundary probability of the outermost stage. So a boundary is drawn towards bytes of low probability.
The mean is over positions that have a target.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import torch
from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.losses.term import LossInputs, LossTerm, require_learned
from hnet_lm.sequences import IGNORE_INDEX

MIN_PROB = 1e-6


@dataclass(frozen=True)
class ConfidenceAlignment(LossTerm):
    """(1 - sg[P_{t+1}] - p_t)^2 of the outermost stage; the weight of the paper."""

    reads_progress: ClassVar[bool] = False
    weight: float = field(default=0.01, kw_only=True)

    def check(self, model: HNetConfig) -> None:
        require_learned(model, 0, "cab")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        p = inputs.routing(0).boundary_prob
        has_target = inputs.targets != IGNORE_INDEX
        targets = torch.where(has_target, inputs.targets, 0)
        with torch.no_grad():
            wide = inputs.logits.to(torch.promote_types(inputs.logits.dtype, torch.float32))
            log_prob = wide.log_softmax(-1).gather(1, targets[:, None])[:, 0]
            prob = log_prob.exp().clamp(MIN_PROB, 1 - MIN_PROB)
        errors = torch.where(has_target, (1 - prob - p).square(), 0.0)
        return {"stage0/cab": errors.sum() / has_target.sum().clamp(min=1)}
