"""The loss terms of a run at a step, and what they carry from update to update.

The first term is the ratio loss, whose targets and weight may ramp; the others are those that the run file adds.
"""

from collections.abc import Sequence

from hnet_lm.losses import LossTerm, RatioLoss
from hnet_lm.training.config import RunConfig
from hnet_lm.training.schedule import ramp


def ratio_loss_at(config: RunConfig, step: int) -> RatioLoss:
    """Target ratios and weight of the ratio loss at a step."""
    loss = config.loss
    over, num_steps = (loss.ramp, config.num_steps) if loss.ramp_steps is None else (1.0, loss.ramp_steps)
    over = over if num_steps else 0.0
    since = step - loss.ramp_after * config.num_steps if loss.ramp_after else step
    starts = loss.start_target_ratios or loss.target_ratios
    start_weight = loss.ratio_loss_weight if loss.start_ratio_loss_weight is None else loss.start_ratio_loss_weight
    return RatioLoss(
        tuple(ramp(a, b, over, since, num_steps) for a, b in zip(starts, loss.target_ratios, strict=True)),
        loss.statistics == "global",
        weight=ramp(start_weight, loss.ratio_loss_weight, over, since, num_steps),
    )


def memories_of(terms: Sequence[LossTerm], saved: Sequence[dict[str, float]]) -> list[dict[str, float]]:
    """What each term carries: as it was saved for those that were added, unless other terms did that."""
    fresh = [term.new_memory() for term in terms[1:]]
    is_ours = len(saved) == len(fresh) and all(a.keys() == b.keys() for a, b in zip(saved, fresh, strict=True))
    return [{}, *(saved if is_ours else fresh)]


def remembered(
    terms: Sequence[LossTerm], memories: Sequence[dict[str, float]], boundary_fractions: Sequence[float]
) -> list[dict[str, float]]:
    """What the added terms carry after an update, for `memories_of` and for the checkpoint."""
    pairs = zip(terms[1:], memories[1:], strict=True)
    return [term.remember(memory, boundary_fractions) for term, memory in pairs]
