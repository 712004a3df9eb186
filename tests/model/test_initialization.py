"""Every row of the table in `initialization.py`: where each weight starts."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus

from hnet_lm.config import HNetConfig
from hnet_lm.model import HNetLM

STD = 0.02

# Residual additions: M, m, t and T of stage 0 make 2 + 1 + 1 + 2; stage 1 adds 1 + 1 + 2, the innermost 2 + 2.
LAYOUT = ["M1m1", ["m2", ["T2"], "M1"], "t1T1"]
ADDITIONS = {0: 6, 1: 10, 2: 14}


def build(*, tie_embeddings: bool = False, seed: int = 0) -> HNetLM:
    config = HNetConfig.from_dict(
        {
            "arch_layout": LAYOUT,
            "d_model": [128, 192, 256],
            "d_intermediate": [256, 256, 256],
            "ssm_cfg": {"d_state": 16},
            "attn_cfg": {"num_heads": [4, 4, 4], "rotary_emb_dim": [16, 16, 16], "window_size": [-1, -1, -1]},
            "tie_embeddings": tie_embeddings,
        }
    )
    torch.manual_seed(seed)
    return HNetLM(config)


@pytest.fixture(scope="module")
def model() -> HNetLM:
    return build()


def named(model: HNetLM, *endings: str) -> dict[str, Tensor]:
    found = {name: p.detach() for name, p in model.named_parameters() if name.endswith(endings)}
    assert found
    return found


def assert_normal(weight: Tensor, std: float) -> None:
    """Mean and deviation within five standard errors, and tails as a normal distribution has them."""
    n = weight.numel()
    assert abs(weight.mean().item()) < 5 * std / math.sqrt(n)
    assert weight.std().item() == pytest.approx(std, rel=5 / math.sqrt(2 * n))
    share = weight.abs().gt(2 * std).float().mean().item()
    assert share == pytest.approx(0.0455, abs=5 * math.sqrt(0.0455 / n))


def test_embedding_and_head(model: HNetLM) -> None:
    assert_normal(model.embedding.weight.detach(), 1.0)
    assert model.lm_head is not None
    assert_normal(model.lm_head.weight.detach(), STD)


def test_a_tied_embedding_starts_as_a_head() -> None:
    model = build(tie_embeddings=True)
    assert model.lm_head is None
    assert_normal(model.head_weight.detach(), STD)


def test_linear_maps_inside_blocks(model: HNetLM) -> None:
    for weight in named(model, "in_proj.weight", "qkv_proj.weight", "fc1.weight").values():
        assert_normal(weight, STD)


def test_what_adds_to_the_residual_is_scaled_by_depth(model: HNetLM) -> None:
    stages = model.parameter_stages()
    for name, weight in named(model, "out_proj.weight", "fc2.weight").items():
        assert_normal(weight, STD / math.sqrt(ADDITIONS[stages[name]]))


def test_routing_starts_as_the_identity(model: HNetLM) -> None:
    for weight in named(model, "routing.q_proj.weight", "routing.k_proj.weight").values():
        assert weight.equal(torch.eye(len(weight)))


def test_residual_projection(model: HNetLM) -> None:
    for weight in named(model, "residual_proj.weight").values():
        assert weight.eq(0).all()
    for bias in named(model, "residual_proj.bias").values():
        bound = len(bias) ** -0.5
        assert bias.abs().max() <= bound
        assert bias.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.3)


def test_pad_vectors_norms_and_d(model: HNetLM) -> None:
    assert {name: len(vector) for name, vector in named(model, "pad_vector").items()} == {
        "network.widen.pad_vector": 64,
        "network.main_network.widen.pad_vector": 64,
    }
    for vector in named(model, "pad_vector").values():
        assert vector.eq(0).all()
    for weight in named(model, "norm.weight", ".D").values():
        assert weight.eq(1).all()


def test_decays() -> None:
    a = torch.cat([x for seed in range(20) for x in named(build(seed=seed), "A_log").values()]).exp()
    assert a.min() >= 1
    assert a.max() <= 16
    assert a.mean().item() == pytest.approx(8.5, abs=5 * 15 / math.sqrt(12 * len(a)))


def test_time_steps() -> None:
    dt = torch.cat([softplus(x) for seed in range(20) for x in named(build(seed=seed), "dt_bias").values()])
    assert dt.min() >= 1e-3 * (1 - 1e-3)
    assert dt.max() <= 1e-1 * (1 + 1e-3)
    spread = math.log(100) / math.sqrt(12)
    assert dt.log().mean().item() == pytest.approx(math.log(1e-2), abs=5 * spread / math.sqrt(len(dt)))


def test_convolutions_start_as_in_torch(model: HNetLM) -> None:
    for name, weight in named(model, "conv.weight", "conv.bias").items():
        bound = 4**-0.5  # one input channel times a width of 4
        assert weight.abs().max() <= bound, name
        assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.2), name


def test_every_parameter_is_covered(model: HNetLM) -> None:
    """By one of the tests above; a new weight needs a row in the table and a line here."""
    endings = (
        *("embedding.weight", "lm_head.weight", "in_proj.weight", "qkv_proj.weight", "fc1.weight", "out_proj.weight"),
        *("fc2.weight", "q_proj.weight", "k_proj.weight", "residual_proj.weight", "residual_proj.bias", "pad_vector"),
        *("norm.weight", ".D", "A_log", "dt_bias", "conv.weight", "conv.bias"),
    )
    assert [name for name, _ in model.named_parameters() if not name.endswith(endings)] == []


def test_a_seed_gives_the_same_model_and_another_one_another() -> None:
    def flat(seed: int) -> Any:
        return torch.cat([p.detach().flatten() for p in build(seed=seed).parameters()])

    assert flat(0).equal(flat(0))
    assert not flat(0).equal(flat(1))
