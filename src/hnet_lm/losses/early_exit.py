"""What the outermost encoder guesses by itself (arXiv 2602.13940):

    L = mean_t -log p_early(x_{t+1} | x_1 .. x_t)

p_early is a head on the encoder's vectors, before there are chunks. It is what `policy` compares the model with: a
boundary is rewarded for what chunks add to this guess. The mean is over positions that have a target.
"""

from dataclasses import dataclass, field
from typing import ClassVar

from torch import Tensor

from hnet_lm.config import HNetConfig
from hnet_lm.losses.next_byte import next_byte_loss
from hnet_lm.losses.term import LossInputs, LossTerm, require_given, require_needed_by_chunker
from hnet_lm.sequences import IGNORE_INDEX


@dataclass(frozen=True)
class EarlyExit(LossTerm):
    """-log p_early of the next byte; the weight of the source."""

    reads_progress: ClassVar[bool] = False
    weight: float = field(default=0.1, kw_only=True)

    def check(self, model: HNetConfig) -> None:
        require_needed_by_chunker(model, "early_exit")

    def values(self, inputs: LossInputs) -> dict[str, Tensor]:
        logits = require_given(inputs.routing(0).early_exit, "early_exit")
        num_targets = (inputs.targets != IGNORE_INDEX).sum()
        return {"loss/early_exit": next_byte_loss(logits, inputs.targets, "sum") / num_targets.clamp(min=1)}
