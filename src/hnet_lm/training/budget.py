"""A run keeps to its minutes: it measures what takes time, and revises its plan from that. All ranks plan alike."""

import dataclasses
from collections.abc import Sequence
from time import monotonic

import torch

from hnet_lm.data import Batch
from hnet_lm.losses import RatioLoss, parse_terms
from hnet_lm.training.optimizer import forget_updates, set_learning_rate
from hnet_lm.training.plan import Pace, Plan
from hnet_lm.training.run import Run, save
from hnet_lm.training.step import update
from hnet_lm.training.validation import Validator

NUM_TRIALS = 3  # the first of them warms up


def plan_length(run: Run, pace: Pace, batches: Sequence[Batch]) -> None:
    """Make the first plan, from trial updates with these batches, of which nothing stays.

    A run that goes on has its plan. All ranks call this together, before the first update.
    """
    if run.state.plan is not None:
        return
    if run.state.step:  # it was a run of another length until now
        pace.update_took(run.state.seconds / run.state.step, run.state.step)
    else:
        _try_updates(run, pace, batches)
    num_steps = run.ranks.from_first(pace.num_steps(run.state.step, run.elapsed))
    run.follow(Plan.first(run.asked, num_steps, run.state.step))


def _try_updates(run: Run, pace: Pace, batches: Sequence[Batch]) -> None:
    """Updates as those of the run will be, but at a rate of 0, which leaves the weights as they are to the bit."""
    set_learning_rate(run.optimizer, 0.0)
    loss, max_grad_norm = run.config.loss, run.config.optimizer.max_grad_norm
    ratio = RatioLoss(loss.target_ratios, loss.statistics == "global", weight=loss.ratio_loss_weight)
    terms = [ratio, *parse_terms(loss.terms)]
    device = run.ranks.device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        for number in range(NUM_TRIALS):
            started = monotonic()
            update(run.network, run.optimizer, batches, terms, max_grad_norm, run.precision, run.ranks)
            if number:
                pace.update_took(monotonic() - started, number)
    run.optimizer.zero_grad(set_to_none=True)
    forget_updates(run.optimizer)


def propose(run: Run, pace: Pace, num_made: int) -> int:
    """How many steps the run should have in all, when `num_made` are made; 0: nothing is known yet."""
    plan = run.state.plan
    assert plan is not None
    if plan.is_final or not pace.is_known:
        return 0
    return plan.snapped(run.asked, pace.num_steps(num_made, run.elapsed))


def revise(run: Run, num_steps: int) -> Plan | None:
    """Take what the first rank proposed; the plan, if there is one."""
    plan = run.state.plan
    if num_steps and plan is not None:
        plan = plan.revised(run.asked, num_steps, run.state.step)
        run.follow(plan)
    return plan


def settle(run: Run, pace: Pace, validator: Validator) -> bool:
    """Before an update: fix the number of steps if it depends on it. Whether that has happened now.

    What the end of the run takes is measured half-way there, where that is not known: early enough for a decay that
    must begin earlier for it. All ranks call this together.
    """
    plan, step = run.state.plan, run.state.step
    if plan is None or plan.is_final:
        return False
    if not pace.knows_costs and plan.decays_from(run.asked, 2 * step):
        _measure_costs(run, pace, validator)
        plan = revise(run, run.ranks.from_first(propose(run, pace, step))) or plan
    if not plan.decays_from(run.asked, step):
        return False
    run.follow(dataclasses.replace(plan, num_steps=max(plan.num_steps, step + 1), is_final=True))
    return True


def _measure_costs(run: Run, pace: Pace, validator: Validator) -> None:
    """A sixteenth of the validation, and a checkpoint."""
    if run.config.validation.is_on and pace.costs.validation is None:
        pace.costs.validation = validator.estimate_seconds()
    if pace.costs.checkpoint is None:
        with pace.timed("checkpoint"):
            save(run)
