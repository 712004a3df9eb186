"""Averaged weights and Muon: what they compute, and that a run with them goes on exactly."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from training_runs import TARGET_RATIOS, Listener, losses, make_batch, make_model, run_config, weights

import hnet_lm
from hnet_lm.errors import ConfigError
from hnet_lm.training.averages import AVERAGES, AveragedWeights
from hnet_lm.training.distributed import Ranks
from hnet_lm.training.loop import train
from hnet_lm.training.muon import MuonWithAdamW
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer, decays, lr_multipliers, set_learning_rate
from hnet_lm.training.step import update
from hnet_lm.weights import read_safetensors

ALONE = Ranks(0, 1, torch.device("cpu"))
KINDS = [{"average": 0.9}, {"name": "muon"}, {"name": "muon", "average": 0.8}]


def kind_of(optimizer: dict[str, Any]) -> str:
    return "-".join(map(str, optimizer.values()))


@pytest.mark.parametrize("optimizer", KINDS, ids=kind_of)
@pytest.mark.parametrize("stop_at", [0, 3])
def test_a_stopped_run_goes_on_exactly(tmp_path: Path, optimizer: dict[str, Any], stop_at: int) -> None:
    train(run_config(tmp_path, 1, name="unbroken", optimizer=optimizer))
    config = run_config(tmp_path, 1, name="stopped", optimizer=optimizer, checkpoints={"every": 100})
    train(config, Listener(lambda step: os.kill(os.getpid(), signal.SIGTERM) if step == stop_at else None))
    train(config)
    assert losses(tmp_path / "stopped") == losses(tmp_path / "unbroken")
    for part in ("", "checkpoints/step_00000006"):
        found, wanted = weights(tmp_path / "stopped" / part), weights(tmp_path / "unbroken" / part)
        assert all(found[name].equal(weight) for name, weight in wanted.items())


def test_the_average_is_what_is_published_and_validated(tmp_path: Path) -> None:
    validation = {"sources": [{"path": str(tmp_path / "corpus.jsonl")}], "max_bytes": 500, "sample_bytes": 0}
    state = train(run_config(tmp_path, optimizer={"average": 0.9, "lr": 1e-2}, validation=validation))
    last = tmp_path / "run" / "checkpoints" / "step_00000006"
    averaged = read_safetensors(last / AVERAGES)
    published, trained = weights(tmp_path / "run"), weights(last)
    assert all(published[name].equal(averaged[name]) for name in published)
    assert any(not published[name].equal(trained[name]) for name in published)
    train(run_config(tmp_path, name="plain", optimizer={"lr": 1e-2}, validation=validation))
    assert losses(tmp_path / "run") == losses(tmp_path / "plain"), "training never sees the averages"
    plain = weights(tmp_path / "plain")
    assert all(plain[name].equal(trained[name]) for name in plain)
    measured = hnet_lm.load(tmp_path / "run")
    assert state.best_bits_per_byte is not None
    assert all(measured.state_dict()[name].equal(averaged[name]) for name in averaged)


def test_the_average_is_the_recurrence() -> None:
    model = make_model(1)
    averages = AveragedWeights(model, 0.9)
    weight = model.get_parameter("lm_head.weight")
    expected = weight.detach().clone()
    for number in range(1, 30):
        with torch.no_grad():
            weight.add_(torch.randn(weight.shape, generator=torch.Generator().manual_seed(number)))
        averages.update(number)
        decay = min(0.9, (1 + number) / (10 + number))
        expected = decay * expected + (1 - decay) * weight.detach()
    before = weight.detach().clone()
    with averages.in_place():
        torch.testing.assert_close(weight.detach(), expected)
    assert weight.equal(before)


def test_averages_begin_where_a_run_takes_them_up(tmp_path: Path) -> None:
    train(run_config(tmp_path, run={"num_steps": 4}))
    config = run_config(tmp_path, optimizer={"average": 0.5})
    train(config, allow_changes=True)
    last = tmp_path / "run" / "checkpoints" / "step_00000006"
    averaged, trained = read_safetensors(last / AVERAGES), weights(last)
    start = weights(tmp_path / "run" / "checkpoints" / "step_00000004")
    name = "lm_head.weight"
    # decay (1 + n) / (10 + n) of updates 5 and 6, both above 0.39 and at most 0.5
    assert (averaged[name] - trained[name]).abs().max() < (start[name] - trained[name]).abs().max()


def test_muon_takes_the_matrices_of_blocks_at_their_stages_rates() -> None:
    model = make_model(2)
    optimizer = build_optimizer(model, OptimizerConfig(name="muon", lr=1e-3), TARGET_RATIOS[2])
    assert isinstance(optimizer, MuonWithAdamW)
    of_muon = {parameter for group in optimizer.muon.param_groups for parameter in group["params"]}
    of_adamw = {parameter for group in optimizer.adamw.param_groups for parameter in group["params"]}
    assert not of_muon & of_adamw
    assert of_muon | of_adamw == set(model.parameters())
    names = {name for name, parameter in model.named_parameters() if parameter in of_muon}
    blocks = {
        name for name, p in model.named_parameters() if decays(name, p) and (".mixer." in name or ".mlp." in name)
    }
    assert names == blocks
    assert len(names) >= 6
    set_learning_rate(optimizer, 5e-4)
    multipliers, stages = lr_multipliers(model.config, TARGET_RATIOS[2]), model.parameter_stages()
    rates = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    for name, weight in model.named_parameters():
        assert rates[weight] == pytest.approx(5e-4 * multipliers[stages[name]]), name


def test_an_update_of_muon_is_orthogonal_and_as_large_as_adamws() -> None:
    """The first update of a matrix: its singular values are about equal, its entries about 0.2 of the rate."""
    model = make_model(0)
    config = OptimizerConfig(name="muon", lr=1e-2, weight_decay=0.0, lr_multipliers=(1.0,))
    optimizer = build_optimizer(model, config, ())
    before = {name: weight.detach().clone() for name, weight in model.named_parameters()}
    update(model, optimizer, [make_batch([30, 20])], [], 1.0, torch.float32, ALONE)
    name = next(name for name in before if name.endswith("mixer.out_proj.weight"))
    step = model.get_parameter(name).detach() - before[name]
    values = torch.linalg.svdvals(step)
    assert values.max() / values.median() < 2
    assert step.square().mean().sqrt() == pytest.approx(0.2 * 1e-2, rel=0.3)


def test_muon_learns(tmp_path: Path) -> None:
    optimizer = {"name": "muon", "lr": 5e-3}
    train(run_config(tmp_path, run={"num_steps": 40}, optimizer=optimizer, checkpoints={"every": 100}))
    found = losses(tmp_path / "run")
    assert found[1] > 5.4
    assert found[40] < 3.2


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "sgd"}, "optimizer.name: must be one of 'adamw', 'muon'"),
        ({"average": 1.0}, "optimizer.average: must be a number, 0 or more and below 1"),
        ({"muon_momentum": -0.1}, "optimizer.muon_momentum: must be a number, 0 or more and below 1"),
    ],
)
def test_values_out_of_range(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**values)
