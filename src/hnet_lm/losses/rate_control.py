"""A ratio loss whose weight is controlled, so that the stage arrives at its target.

    L = w_u ratio_loss(F, G; N),        w_{u+1} = clamp(w_u exp(gain (N F_u - 1)), least, most)

F has no gradient, so the ratio loss of a fixed weight is a soft pull: with the paper's 0.03 a target of 5 ends at 3.95
bytes per chunk, with 1.0 at 4.97 (SOMBRERO, arXiv 2601.22805). Here the weight grows while the stage cuts too often and
falls while it cuts too seldom: an integral controller in log w. It sees nothing but the fraction F_u of the update
before, so it is as causal as the ratio loss. Set `loss.ratio_loss_weight` to 0 beside it.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from hnet_lm.checks import require_number
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.losses.ratio import ratio_loss
from hnet_lm.losses.term import LossInputs, LossTerm, require_learned


@dataclass(frozen=True)
class RateControl(LossTerm):
    """w_u ratio_loss(F, G; N) of one stage. Memory: w."""

    reads_progress: ClassVar[bool] = False
    target_ratio: float
    """N: positions per chunk."""
    stage: int = 0
    start: float = 0.03
    """w of the first update."""
    gain: float = 0.02
    """How fast the weight follows: an update that cuts twice too often changes log w by so much."""
    least: float = 1e-3
    most: float = 3.0

    def __post_init__(self) -> None:
        require_number("loss.terms.rate_control.target_ratio", self.target_ratio, above=1)
        if not 0 < self.least <= self.start <= self.most < float("inf"):
            bounds = f"{self.least} .. {self.most}"
            raise ConfigError(f"loss.terms: 'rate_control' must start within its bounds {bounds}, got {self.start}")
        require_number("loss.terms.rate_control.gain", self.gain, above=0, most=1)

    def check(self, model: HNetConfig) -> None:
        require_learned(model, self.stage, "rate_control")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        weight = inputs.memory["weight"]
        return {f"stage{self.stage}/rate_control": weight * ratio_loss(inputs.routing(self.stage), self.target_ratio)}

    def new_memory(self) -> dict[str, float]:
        return {"weight": self.start}

    def remember(self, memory: Mapping[str, float], boundary_fractions: Sequence[float]) -> dict[str, float]:
        error = self.target_ratio * boundary_fractions[self.stage] - 1
        return {"weight": min(self.most, max(self.least, memory["weight"] * math.exp(self.gain * error)))}
