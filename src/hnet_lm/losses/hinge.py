"""A one-sided bound on how often a stage cuts, after FLEXITOKENS: too many boundaries cost, too few do not.

    L = max(0, G - 1/N)

G is the mean boundary probability, N the least number of positions per chunk that is aimed at. A boundary has p > 1/2,
so with G at the bound no more than 2/N of the positions are boundaries. Where the data wants fewer, nothing pulls: set
`loss.ratio_loss_weight` to 0, or to little, beside it.
"""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hnet_lm.checks import require_number
from hnet_lm.config import HNetConfig
from hnet_lm.losses.term import LossInputs, LossTerm, require_learned


@dataclass(frozen=True)
class Hinge(LossTerm):
    """max(0, G - 1/N) of one stage."""

    reads_progress: ClassVar[bool] = False
    target_ratio: float
    """N: positions per chunk."""
    stage: int = 0

    def __post_init__(self) -> None:
        require_number("loss.terms.hinge.target_ratio", self.target_ratio, above=1)

    def check(self, model: HNetConfig) -> None:
        require_learned(model, self.stage, "hinge")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        mean_boundary_prob = inputs.routing(self.stage).boundary_prob.mean()
        return {f"stage{self.stage}/hinge": (mean_boundary_prob - 1 / self.target_ratio).relu()}
