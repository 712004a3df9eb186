"""Boundaries by policy gradient: its terms against their equations, position by position, and runs that train by it."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import architecture, run_config, updates, weights

from hnet_lm import checkpoint
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.losses import IGNORE_INDEX, LossInputs
from hnet_lm.losses.early_exit import EarlyExit
from hnet_lm.losses.policy import PolicyGradient, discounted
from hnet_lm.losses.target_rate import TargetRate
from hnet_lm.model import Routing
from hnet_lm.sequences import Sequences
from hnet_lm.training.loop import train
from hnet_lm.training.run_folder import CHECKPOINTS

LENGTHS = [5, 1, 0, 3]
POLICY = {
    "chunkers": [{"name": "policy", "start_ratio": 3.0}],
    "chunking": [{"smoothing": "none", "confidence": "none"}],
}
TERMS = [{"name": "policy"}, {"name": "early_exit"}, {"name": "target_rate", "target_ratio": 3.0}]


def drawn() -> LossInputs:
    seqs = Sequences.from_lengths(LENGTHS)
    t = seqs.num_positions
    logits, early, hidden = (torch.randn(t, width, dtype=torch.float64) for width in (256, 256, 4))
    logit = torch.randn(t, dtype=torch.float64, requires_grad=True)
    is_boundary = (torch.rand(t) < 0.5) | (seqs.positions == 0)
    targets = torch.randint(256, (t,))
    targets[3] = IGNORE_INDEX
    prob = torch.sigmoid(logit).masked_fill(seqs.positions == 0, 1.0)
    routing = Routing(prob, is_boundary, seqs, boundary_logit=logit, early_exit=early)
    return LossInputs(logits, targets, hidden, (routing,), seqs)


def by_hand(inputs: LossInputs, gamma: float, centred: str) -> Tensor:
    routing = inputs.routings[0]
    assert routing.early_exit is not None
    assert routing.boundary_logit is not None
    rewards = []
    for t, target in enumerate(inputs.targets.tolist()):
        has = target != IGNORE_INDEX
        gain = inputs.logits.log_softmax(-1)[t, target] - routing.early_exit.log_softmax(-1)[t, target] if has else 0.0
        rewards.append(float(gain))
    advantages, where = [], []
    start = 0
    for length in LENGTHS:
        for t in range(length):
            advantages.append(sum(gamma ** (j - t) * rewards[start + j] for j in range(t, length)))
            where.append(t)
        start += length
    decided = [i for i, t in enumerate(where) if t > 0]
    total = torch.zeros((), dtype=torch.float64)
    for i in decided:
        alike = [j for j in decided if centred == "batch" or where[j] == where[i]]
        advantage = advantages[i] - sum(advantages[j] for j in alike) / len(alike)
        p = torch.sigmoid(routing.boundary_logit[i])
        total = total - torch.log(p if routing.is_boundary[i] else 1 - p) * advantage
    return total / len(decided)


@pytest.mark.parametrize("centred", ["batch", "position"])
def test_the_policy_gradient_is_its_equation(centred: Any) -> None:
    inputs = drawn()
    logit = inputs.routings[0].boundary_logit
    assert logit is not None
    found = PolicyGradient(gamma=0.9, centred=centred).values(inputs)["stage0/policy"]
    wanted = by_hand(inputs, 0.9, centred)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(*(torch.autograd.grad(value, logit)[0] for value in (found, wanted)))


def test_rewards_of_other_sequences_do_not_count() -> None:
    rewards = torch.arange(1.0, 10.0, dtype=torch.float64)
    found = discounted(rewards, Sequences.from_lengths(LENGTHS), 0.5)
    assert found[:5].tolist() == pytest.approx([1 + 1 + 0.75 + 0.5 + 5 / 16, 2 + 1.5 + 1 + 0.625, 3 + 2 + 1.25, 6.5, 5])
    assert found[5:].tolist() == pytest.approx([6, 7 + 4 + 2.25, 8 + 4.5, 9])
    assert discounted(rewards, Sequences.from_lengths(LENGTHS), 0.0).tolist() == pytest.approx(rewards.tolist())


def test_the_rate_is_pulled_to_its_target_by_every_logit_alike() -> None:
    inputs = drawn()
    routing = inputs.routings[0]
    assert routing.boundary_logit is not None
    decided = inputs.seqs.positions > 0
    off = routing.boundary_prob[decided].mean().detach() - 1 / 4
    value = TargetRate(target_ratio=4.0).values(inputs)["stage0/target_rate"]
    torch.testing.assert_close(value, routing.boundary_logit[decided].mean() * off)
    (grad,) = torch.autograd.grad(value, routing.boundary_logit)
    torch.testing.assert_close(grad, torch.where(decided, off / decided.sum(), 0.0))


def test_the_early_exit_is_a_cross_entropy_of_its_own() -> None:
    inputs = drawn()
    early = inputs.routings[0].early_exit
    assert early is not None
    nothing = replace(inputs, targets=torch.full_like(inputs.targets, IGNORE_INDEX))
    has = inputs.targets != IGNORE_INDEX
    wanted = -early.log_softmax(-1)[has].gather(1, inputs.targets[has, None]).mean()
    torch.testing.assert_close(EarlyExit().values(inputs)["loss/early_exit"], wanted)
    assert EarlyExit().values(nothing)["loss/early_exit"].item() == 0.0


def policy_run(folder: Path, name: str, terms: list[dict[str, Any]] = TERMS, **run: Any) -> Any:
    config = run_config(folder, name=name, loss={"ratio_loss_weight": 0.0, "terms": terms}, run=run)
    Path(config.model.config).write_text(json.dumps(architecture().to_dict() | POLICY))
    return config


def test_a_run_learns_by_it_and_is_resumed_exactly(tmp_path: Path) -> None:
    """Draws of the actions are a part of the random state that a checkpoint keeps."""
    train(policy_run(tmp_path, "whole", num_steps=4))
    stopped = policy_run(tmp_path, "stopped", num_steps=4)
    train(stopped)
    (tmp_path / "stopped" / CHECKPOINTS / "step_00000004").rename(tmp_path / "away")
    train(stopped)
    found, wanted = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert all(found[name].equal(wanted[name]) for name in wanted)
    records = updates(tmp_path / "whole")
    assert {"stage0/policy", "stage0/target_rate", "loss/early_exit"} <= records[-1].keys()
    assert all(math.isfinite(record["loss/early_exit"]) for record in records)
    assert records[-1]["loss/early_exit"] < records[0]["loss/early_exit"]
    model = checkpoint.load(tmp_path / "whole")
    assert model.config.to_dict()["chunkers"][0]["name"] == "policy"
    assert model.config.to_dict()["chunking"] == POLICY["chunking"]


def test_a_run_without_its_terms_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="the chunker 'policy' learns by early_exit; add them"):
        train(policy_run(tmp_path, "run", [TERMS[0], TERMS[2]]))
    with pytest.raises(ConfigError, match="'policy' trains a chunker that draws its boundaries"):
        PolicyGradient().check(architecture())
    seqs = Sequences.from_lengths([2])
    plain = Routing(torch.ones(2), torch.ones(2, dtype=torch.bool), seqs)
    with pytest.raises(ConfigError, match="'target_rate' needs what the chunker gives in training"):
        TargetRate().values(replace(drawn(), routings=(plain,), seqs=seqs))
    with pytest.raises(ConfigError, match=r"policy\.gamma: must be a number, 0 or more and below 1"):
        PolicyGradient(gamma=1.0)
    assert HNetConfig.from_dict(architecture().to_dict() | POLICY).chunker(0).needs_terms
