"""Terms added to the loss by a run file: what they add, what they carry, and what they say of a mistake."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import make_batch, make_model, run_config, updates, weights

from hnet_lm.errors import ConfigError
from hnet_lm.losses import IGNORE_INDEX, LossInputs, next_byte_loss, parse_terms, ratio_loss
from hnet_lm.losses.cab import ConfidenceAlignment
from hnet_lm.losses.entropy import EntropyBoundaries
from hnet_lm.losses.hinge import Hinge
from hnet_lm.losses.rate_control import RateControl
from hnet_lm.model import Routing
from hnet_lm.model.dynamic_chunking.chunkers.pool import PoolChunkerConfig
from hnet_lm.sequences import Sequences
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import train
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer
from hnet_lm.training.run_folder import CHECKPOINTS
from hnet_lm.training.step import update

ALONE = Ranks(0, 1, torch.device("cpu"))


def inputs(p: list[float], logits: torch.Tensor | None = None, targets: list[int] | None = None) -> LossInputs:
    t = len(p)
    prob = torch.tensor(p, dtype=torch.float64, requires_grad=True)
    seqs = Sequences.from_lengths([t])
    return LossInputs(
        torch.zeros(t, 256, dtype=torch.float64) if logits is None else logits,
        torch.zeros(t, dtype=torch.int64) if targets is None else torch.tensor(targets),
        torch.zeros(t, 4, dtype=torch.float64),
        (Routing(prob, prob > 0.5, seqs),),
        seqs,
    )


def test_cab_is_its_equation() -> None:
    """Two sure guesses, one right and one wrong, an even one, and a position without a target."""
    logits = torch.zeros(4, 256, dtype=torch.float64)
    logits[:2, 7] = 100.0
    given = inputs([0.2, 0.3, 0.4, 0.9], logits, [7, 8, 5, IGNORE_INDEX])
    value = ConfidenceAlignment().values(given)["stage0/cab"]
    errors = [1 - (1 - 1e-6) - 0.2, 1 - 1e-6 - 0.3, 1 - 1 / 256 - 0.4]
    assert value.item() == pytest.approx(sum(e * e for e in errors) / 3, rel=1e-9)
    (grad,) = torch.autograd.grad(value, given.routings[0].boundary_prob)
    assert grad.tolist() == pytest.approx([-2 * e / 3 for e in errors] + [0.0], rel=1e-9)


def test_the_hinge_pulls_one_way() -> None:
    often, seldom = inputs([1.0, 0.8, 0.6]), inputs([0.1, 0.2, 0.3])
    term = Hinge(target_ratio=2.0)
    assert term.values(often)["stage0/hinge"].item() == pytest.approx(0.8 - 0.5)
    assert term.values(seldom)["stage0/hinge"].item() == 0.0
    (grad,) = torch.autograd.grad(term.values(often)["stage0/hinge"], often.routings[0].boundary_prob)
    assert grad.tolist() == pytest.approx([1 / 3] * 3)


def test_the_entropy_term_is_its_equation() -> None:
    """The two unsure positions are those of nearly equal logits; the one without a target is the least sure of all."""
    logits = torch.zeros(5, 256, dtype=torch.float64)
    for position, largest in enumerate([9.0, 0.1, 9.5, 0.2, 0.0]):
        logits[position, 3] = largest
    given = inputs([0.2, 0.3, 0.4, 0.9, 0.7], logits, [3, 8, 3, 3, IGNORE_INDEX])
    term = EntropyBoundaries(target_ratio=2.0)
    assert term.new_memory() == {"fraction": 0.5}
    value = term.values(replace(given, memory={"fraction": 0.5}))["stage0/entropy"]
    errors = [-0.2, 0.7, -0.4, 0.1]
    assert value.item() == pytest.approx(sum(e * e for e in errors) / 4, rel=1e-9)
    (grad,) = torch.autograd.grad(value, given.routings[0].boundary_prob)
    assert grad.tolist() == pytest.approx([-2 * e / 4 for e in errors] + [0.0], rel=1e-9)
    nowhere = replace(given, targets=torch.full((5,), IGNORE_INDEX), memory={"fraction": 0.5})
    assert term.values(nowhere)["stage0/entropy"].item() == 0.0


def test_the_entropy_term_asks_for_more_boundaries_where_there_are_too_few() -> None:
    term = EntropyBoundaries(target_ratio=4.0, gain=0.5)
    found = []
    memory = term.new_memory()
    for fraction in (0.125, 0.25, 0.5, 1.0, 1.0, 1.0, 1.0):
        memory = term.remember(memory, [fraction])
        found.append(memory["fraction"])
    e = torch.tensor(0.25).exp().item()
    assert found[:3] == pytest.approx([0.25 * e, 0.25 * e, 0.25 / e])
    assert found[-1] == 0.0625


def test_the_controlled_weight_rises_and_falls_within_its_bounds() -> None:
    term = RateControl(target_ratio=4.0, start=0.1, gain=0.5, least=0.05, most=0.4)
    memory = term.new_memory()
    found = []
    for fraction in (0.5, 0.5, 0.5, 0.25, 0.125, 0.125, 0.125, 0.01, 0.01, 0.01, 0.01, 0.01):
        memory = term.remember(memory, [fraction])
        found.append(memory["weight"])
    e = torch.tensor(0.5).exp().item()
    assert found[:4] == pytest.approx([0.1 * e, 0.1 * e * e, 0.4, 0.4])
    assert found[4] == pytest.approx(0.4 * e**-0.5)
    assert found[-1] == 0.05


def test_an_update_adds_them_with_their_weights() -> None:
    """The gradient of an update is that of the loss put together by hand."""
    terms = parse_terms(
        [
            {"name": "cab", "weight": 0.5},
            {"name": "hinge", "target_ratio": 5, "weight": 2.0},
            {"name": "rate_control", "target_ratio": 3.0, "start": 0.25},
        ]
    )
    model, by_hand, batch = make_model(1), make_model(1), make_batch([25, 15])
    optimizer = build_optimizer(model, OptimizerConfig(), [3.0])
    result = update(model, optimizer, [batch], terms, 1e9, torch.float32, ALONE)
    out = by_hand(batch.input_ids, batch.sequences)
    (routing,) = out.routings
    prob = out.logits.softmax(-1).gather(1, batch.targets[:, None])[:, 0].clamp(1e-6, 1 - 1e-6).detach()
    cab = (1 - prob - routing.boundary_prob).square().mean()
    hinge = (routing.boundary_prob.mean() - 0.2).relu()
    loss = next_byte_loss(out.logits, batch.targets) + 0.5 * cab + 2.0 * hinge + 0.25 * ratio_loss(routing, 3.0)
    loss.backward()
    for (name, parameter), (_, wanted) in zip(model.named_parameters(), by_hand.named_parameters(), strict=True):
        assert parameter.grad is not None
        torch.testing.assert_close(parameter.grad, wanted.grad, atol=1e-6, rtol=1e-4, msg=name)
    assert result.terms == ("stage0/cab", "stage0/hinge", "stage0/rate_control")
    assert result.sums[2:].tolist() == pytest.approx(
        [cab.item(), hinge.item(), 0.25 * ratio_loss(routing, 3.0).item()], rel=1e-5
    )


CONTROLLED = {"ratio_loss_weight": 0.0, "terms": [{"name": "rate_control", "target_ratio": 3.0, "gain": 0.5}]}


def test_what_a_term_carries_is_resumed_exactly(tmp_path: Path) -> None:
    whole = run_config(tmp_path, name="whole", loss=CONTROLLED, run={"num_steps": 4})
    train(whole)
    stopped = run_config(tmp_path, name="stopped", loss=CONTROLLED, run={"num_steps": 4})
    train(stopped)
    newest = tmp_path / "stopped" / CHECKPOINTS / "step_00000004"
    newest.rename(tmp_path / "away")
    state = train(stopped)
    assert state.step == 4
    (memory,) = state.term_memories
    assert memory["weight"] != RateControl(3.0).start
    found, wanted = weights(tmp_path / "stopped"), weights(tmp_path / "whole")
    assert all(found[name].equal(wanted[name]) for name in wanted)
    keys = [record["stage0/rate_control"] for record in updates(tmp_path / "stopped")]
    assert keys == [record["stage0/rate_control"] for record in updates(tmp_path / "whole")]


@pytest.mark.parametrize(
    ("term", "says"),
    [
        ({"name": "cabb"}, r"loss.terms\[0\]: no loss term 'cabb'; there are ratio, cab, .*did you mean 'cab'"),
        ({"weight": 1.0}, r"loss.terms\[0\]: must be an object with a name"),
        ({"name": "hinge"}, "'target_ratio' is missing"),
        ({"name": "hinge", "target_ratio": 0.5}, "hinge.target_ratio: must be a number above 1"),
        ({"name": "entropy", "target_ratio": 1}, "entropy.target_ratio: must be a number above 1"),
        ({"name": "entropy", "target_ratio": 6, "gain": 2}, "entropy.gain: must be a number above 0 and 1 or less"),
        ({"name": "cab", "weight": "much"}, "weight: must be a number"),
        ({"name": "cab", "stage": 1}, "unknown key 'stage'"),
        ({"name": "rate_control", "target_ratio": 3, "start": 9}, "must start within its bounds"),
    ],
)
def test_a_mistake_is_said_when_the_run_file_is_read(term: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=says):
        run_config(tmp_path, loss={"terms": [term]})


@pytest.mark.parametrize(
    ("stage", "says"), [(2, "'hinge' is for stage 2, and the model chunks 1 times"), (-1, "for stage -1")]
)
def test_a_stage_that_is_not_there_is_said_before_the_run_begins(stage: int, says: str, tmp_path: Path) -> None:
    config = run_config(tmp_path, loss={"terms": [{"name": "hinge", "target_ratio": 3, "stage": stage}]})
    with pytest.raises(ConfigError, match=says):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_stage_that_a_rule_cuts_is_not_to_be_steered() -> None:
    config = replace(make_model(1).config, chunkers=(PoolChunkerConfig(3),))
    with pytest.raises(ConfigError, match="'cab' is for stage 0, which a rule cuts"):
        ConfidenceAlignment().check(config)
