"""What `loss.recipe` of a run file stands for; docs/recipes.md says which model wants which, and what shows it.

A recipe is written out into terms and weights before a run begins. So checkpoints, reports and `hnet-lm info` say what
a run really does, and a run whose recipe has changed in another version of this package is seen to be another run.
"""

import dataclasses
from typing import Any

from hnet_lm.errors import ConfigError
from hnet_lm.training.sections import LossConfig

SMALL_WEIGHT = 0.1
"""Of the entropy term; docs/recipes.md has the figures of others."""


def written_out(loss: LossConfig) -> LossConfig:
    """The loss without a recipe, and with what it stands for. Raises ConfigError where it does not fit."""
    if loss.recipe == "paper":
        return loss
    if not loss.target_ratios:
        raise ConfigError("loss.recipe: 'small' steers where to cut, which this model does not learn")
    if any(term.get("name") == "entropy" for term in loss.terms):
        raise ConfigError("loss.recipe: 'small' adds the term 'entropy', which loss.terms has too; drop one of them")
    term: dict[str, Any] = {"name": "entropy", "target_ratio": loss.target_ratios[0], "weight": SMALL_WEIGHT}
    weight = 0.0 if len(loss.target_ratios) == 1 else loss.ratio_loss_weight  # inner stages have nothing else
    return dataclasses.replace(loss, recipe="paper", ratio_loss_weight=weight, terms=(term, *loss.terms))
