"""Learning rates by stage: the paper's formula and figures, groups, and what weight decay applies to."""

import pytest
import torch
from training_runs import TARGET_RATIOS, make_model

from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.named_configs import FOLDER
from hnet_lm.training.optimizer import OptimizerConfig, build_optimizer, lr_multipliers, set_learning_rate

MODELS = FOLDER / "models"


@pytest.mark.parametrize(
    ("name", "target_ratios", "printed"),
    [
        ("hnet_1stage_L", [6.0], [2.627, 0.876]),
        ("hnet_1stage_XL", [6.0], [3.033, 0.876]),
        ("hnet_2stage_L", [3.0, 3.0], [2.627, 1.517, 0.715]),
        ("hnet_2stage_XL", [3.0, 3.0], [3.033, 1.430, 0.715]),
    ],
)
def test_multipliers_are_the_papers(name: str, target_ratios: list[float], printed: list[float]) -> None:
    config = HNetConfig.load(MODELS / f"{name}.json")
    assert lr_multipliers(config, target_ratios) == pytest.approx(printed, abs=6e-4)


def test_an_isotropic_model_has_the_base_rate() -> None:
    assert lr_multipliers(make_model(0).config, []) == [1.0]


@pytest.mark.parametrize("num_stages", [0, 1, 2])
def test_each_parameter_is_in_one_group_at_its_stages_rate(num_stages: int) -> None:
    model = make_model(num_stages)
    ratios = TARGET_RATIOS[num_stages]
    optimizer = build_optimizer(model, OptimizerConfig(lr=1e-3), ratios)
    set_learning_rate(optimizer, 5e-4)
    multipliers = lr_multipliers(model.config, ratios)
    rate_of = {}
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            assert parameter not in rate_of
            rate_of[parameter] = group["lr"]
    for name, stage in model.parameter_stages().items():
        assert rate_of.pop(model.get_parameter(name)) == pytest.approx(5e-4 * multipliers[stage])
    assert not rate_of


def test_routing_runs_at_its_multiple_of_its_stages_rate() -> None:
    model = make_model(2)
    rates = {}
    for multiplier in (1.0, 0.1):
        config = OptimizerConfig(lr=1e-3, lr_multipliers=(2.0, 1.5, 1.0), routing_lr_multiplier=multiplier)
        optimizer = build_optimizer(model, config, TARGET_RATIOS[2])
        set_learning_rate(optimizer, 1e-3)
        rates[multiplier] = {weight: group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    stages = model.parameter_stages()
    routing = {name for name in stages if ".routing." in name}
    assert {stages[name] for name in routing} == {0, 1}
    for name, weight in model.named_parameters():
        rate = 1e-3 * (2.0, 1.5, 1.0)[stages[name]]
        assert rates[1.0][weight] == pytest.approx(rate), name
        assert rates[0.1][weight] == pytest.approx(0.1 * rate if name in routing else rate), name


def test_a_fused_step_is_the_plain_step_to_rounding() -> None:
    """And twice the same to the bit."""
    found = []
    for fused in (True, True, False):
        model = make_model(2)
        optimizer = build_optimizer(model, OptimizerConfig(lr=1e-2), TARGET_RATIOS[2])
        assert all(group["fused"] for group in optimizer.param_groups)
        if not fused:
            plain = [{**group, "fused": False, "foreach": False} for group in optimizer.param_groups]
            optimizer = torch.optim.AdamW(plain)
        generator = torch.Generator().manual_seed(0)
        for _ in range(5):
            for weight in model.parameters():
                weight.grad = torch.randn(weight.shape, generator=generator)
            optimizer.step()
        found.append({name: weight.detach() for name, weight in model.named_parameters()})
    for name, weight in found[0].items():
        assert found[1][name].equal(weight)
        torch.testing.assert_close(found[2][name], weight, atol=1e-6, rtol=1e-6, msg=name)


def test_the_formula_is_for_none_and_a_list_is_taken_as_it_is() -> None:
    model = make_model(1)
    given = build_optimizer(model, OptimizerConfig(lr_multipliers=(2.0, 1.5)), [3.0])
    assert {group["lr_multiplier"] for group in given.param_groups} == {2.0, 1.5}
    formula = build_optimizer(model, OptimizerConfig(), [3.0])
    assert {group["lr_multiplier"] for group in formula.param_groups} == set(lr_multipliers(model.config, [3.0]))


@pytest.mark.parametrize("multipliers", [(), (1.0,), (1.0, 1.0, 1.0)])
def test_another_number_of_multipliers_is_an_error(multipliers: tuple[float, ...]) -> None:
    with pytest.raises(ConfigError, match=f"lr_multipliers: the model has 2 stages, not {len(multipliers)}"):
        build_optimizer(make_model(1), OptimizerConfig(lr_multipliers=multipliers), [3.0])


def test_weight_decay_is_for_matrices_only() -> None:
    model = make_model(1)
    optimizer = build_optimizer(model, OptimizerConfig(weight_decay=0.1), [3.0])
    decayed = {parameter for group in optimizer.param_groups if group["weight_decay"] for parameter in group["params"]}
    short = {".".join(name.split(".")[-2:]): weight for name, weight in model.named_parameters()}
    assert {name for name, weight in short.items() if weight in decayed} == {
        *("in_proj.weight", "out_proj.weight", "qkv_proj.weight", "fc1.weight", "fc2.weight"),
        *("q_proj.weight", "k_proj.weight", "residual_proj.weight", "lm_head.weight"),
    }
    assert {name for name, weight in short.items() if weight not in decayed} == {
        *("embedding.weight", "conv.weight", "conv.bias", "residual_proj.bias", "widen.pad_vector"),
        *("norm.weight", "mixer_norm.weight", "mlp_norm.weight", "mixer.A_log", "mixer.D", "mixer.dt_bias"),
    }


def test_frozen_parameters_are_in_no_group() -> None:
    model = make_model(1)
    model.embedding.requires_grad_(False)
    optimizer = build_optimizer(model, OptimizerConfig(), [3.0])
    held = {parameter for group in optimizer.param_groups for parameter in group["params"]}
    assert model.embedding.weight not in held
    assert len(held) == len(list(model.parameters())) - 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"lr": 0.0}, "optimizer.lr: must be a number above 0"),
        ({"lr": float("nan")}, "optimizer.lr: must be a number above 0"),
        ({"eps": -1.0}, "optimizer.eps: must be a number above 0"),
        ({"max_grad_norm": 0.0}, "optimizer.max_grad_norm: must be a number above 0"),
        ({"weight_decay": -0.1}, "optimizer.weight_decay: must be a number, 0 or more"),
        ({"betas": (0.9, 1.0)}, "optimizer.betas: must be a number, 0 or more and below 1"),
        ({"betas": (0.9,)}, "optimizer.betas: must be two numbers"),
        ({"lr_multipliers": (1.0, 0.0)}, "optimizer.lr_multipliers: must be a number above 0"),
    ],
)
def test_values_out_of_range(values: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**values)


def test_the_rate_is_set_anew_each_time() -> None:
    """Setting a rate twice must not multiply twice."""
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer = torch.optim.SGD([{"params": [weight], "lr": 1.0, "lr_multiplier": 3.0}])
    for _ in range(2):
        set_learning_rate(optimizer, 0.5)
        assert optimizer.param_groups[0]["lr"] == 1.5
