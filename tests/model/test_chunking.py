"""How a stage may be put together otherwise, part by part against its equation; and what acts by chance."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor

from hnet_lm.chunking_config import ChunkingConfig
from hnet_lm.config import HNetConfig
from hnet_lm.errors import ConfigError
from hnet_lm.generation.stepper.cpu.supports import unsupported
from hnet_lm.model import HNetLM, Routing
from hnet_lm.model.dynamic_chunking import (
    ByteSmoothing,
    ConfidenceUpsampler,
    NoSmoothing,
    SmoothingModule,
    UnweighedUpsampler,
)
from hnet_lm.model.dynamic_chunking.chunkers.policy import PolicyChunker, PolicyChunkerConfig
from hnet_lm.model.flops import forward_flops_per_byte
from hnet_lm.named_configs import FOLDER
from hnet_lm.sequences import Sequences
from hnet_lm.testing.small import WIDTH, small_config, small_model

LENGTHS = [6, 1, 0, 4]


def small(**extensions: Any) -> HNetConfig:
    table = small_config({"name": "dynamic"}).to_dict()
    del table["chunkers"]
    return HNetConfig.from_dict(table | extensions)


def random_routing() -> Routing:
    seqs = Sequences.from_lengths(LENGTHS)
    p = torch.where(seqs.positions == 0, 1.0, torch.rand(seqs.num_positions)).double().requires_grad_()
    return Routing(p, p > 0.5, seqs)


def test_smoothing_of_bytes_is_the_recurrence_over_positions() -> None:
    routing = random_routing()
    x_hat = torch.randn(sum(LENGTHS), 3, dtype=torch.float64, requires_grad=True)
    x, state = ByteSmoothing(3)(x_hat, routing, routing.seqs)
    assert state is None
    confidence = routing.confidence.clamp(1e-4, 1 - 1e-4)
    starts = routing.seqs.starts.tolist()
    before = torch.zeros(3, dtype=torch.float64)
    for t in range(sum(LENGTHS)):
        before = torch.zeros_like(before) if t in starts else before
        before = confidence[t] * x_hat[t] + (1 - confidence[t]) * before
        torch.testing.assert_close(x[t], before)
    assert torch.autograd.gradcheck(
        lambda p, x_hat: ByteSmoothing(3)(x_hat, Routing(p, routing.is_boundary, routing.seqs), routing.seqs)[0],
        (routing.boundary_prob.detach().clamp(0.01, 0.99).requires_grad_(), x_hat),
    )


def test_a_weight_and_no_weight() -> None:
    routing = random_routing()
    z = torch.randn(int(routing.is_boundary.sum()), 2, dtype=torch.float64, requires_grad=True)
    inner = Sequences.from_lengths([int(part.sum()) for part in routing.is_boundary.split(LENGTHS)])
    chunk = routing.is_boundary.cumsum(0) - 1
    weighed, _ = ConfidenceUpsampler(2)(z, routing, inner)
    torch.testing.assert_close(weighed, z[chunk] * routing.confidence[:, None])
    plain, _ = UnweighedUpsampler(2)(z, routing, inner)
    assert plain.equal(z[chunk])
    (grad,) = torch.autograd.grad(weighed.sum(), routing.boundary_prob)
    sign = torch.where(routing.is_boundary, 1.0, -1.0)
    torch.testing.assert_close(grad, sign * z[chunk].sum(-1).detach())


def test_every_part_is_chosen_by_its_key() -> None:
    model: Any = HNetLM(small(chunking=[{"smoothing": "none", "confidence": "weight", "residual": "none"}]))
    network = model.network
    assert type(network.smoothing) is NoSmoothing
    assert type(network.upsampler) is ConfidenceUpsampler
    assert not list(network.residual_proj.parameters())
    assert network.residual_proj(torch.ones(2, 3)).eq(0).all()
    assert forward_flops_per_byte(model.config, [4.0], 100)[0, "residual_proj"] == 0
    paper: Any = HNetLM(small())
    assert type(paper.network.smoothing) is SmoothingModule
    assert unsupported(paper) is None
    assert "NoSmoothing" in (unsupported(model) or "")


def test_a_config_says_what_is_not_the_paper_s() -> None:
    config = small(chunking=[{"smoothing": "bytes"}])
    assert config.to_dict()["chunking"] == [{"smoothing": "bytes"}]
    assert HNetConfig.from_dict(config.to_dict()) == config
    assert config.chunking_of(0) == ChunkingConfig(smoothing="bytes")
    paper = small(chunking=[{"smoothing": "chunks", "residual": "projection"}])
    assert paper == small()
    assert "chunking" not in paper.to_dict()
    published = HNetConfig.load(FOLDER / "models/hnet_2stage_L.json")
    assert {"chunking", "chunkers"}.isdisjoint(json.loads(json.dumps(published.to_dict())))


@pytest.mark.parametrize(
    ("extensions", "message"),
    [
        (
            {"chunking": [{"smoothing": "byte"}]},
            "entry 0.smoothing: must be one of 'chunks', 'bytes', 'none'",
        ),
        ({"chunking": [{"smooth": "bytes"}]}, "unknown key 'smooth'; did you mean 'smoothing'"),
        ({"chunking": []}, "the model chunks 1 times, but 0 entries are given"),
        ({"chunking": "none"}, "must be a list with one entry"),
        ({"chunking": ["bytes"]}, "entry 0: must be an object with the keys smoothing, confidence, residual"),
        ({"chunking": [{"residual": "none"}], "spacebyte": True}, "spacebyte: says how the stages are put together"),
        (
            {"chunkers": [{"name": "linear", "start_rate": 1.0}]},
            "linear.start_rate: must be a number above 0 and below 1",
        ),
        (
            {"chunkers": [{"name": "dynamic", "threshold": 1.0}]},
            "dynamic.threshold: must be a number above 0 and below 1",
        ),
        (
            {"chunkers": [{"name": "policy", "start_ratio": 1.0}]},
            "policy.start_ratio: must be a number above 1",
        ),
    ],
)
def test_a_mistake_is_one_line(extensions: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        small(**extensions)


def policy(**options: Any) -> PolicyChunker:
    module = PolicyChunker(WIDTH, 256, PolicyChunkerConfig(**options)).double()
    module.initialize()
    return module


def test_a_policy_starts_at_its_rate_and_draws_in_training() -> None:
    x = torch.randn(4000, WIDTH, dtype=torch.float64)
    seqs = Sequences.from_lengths([2500, 1500])
    module = policy(start_ratio=4.0)
    first, _ = module(x, seqs)
    second, _ = module(x, seqs)
    assert first.boundary_prob.mean().item() == pytest.approx(0.25, abs=0.02)
    assert first.is_boundary.double().mean().item() == pytest.approx(0.25, abs=0.04)
    assert not first.is_boundary.equal(second.is_boundary)
    assert first.is_boundary[[0, 2500]].all()
    assert first.early_exit is not None
    assert first.early_exit.shape == (4000, 256)
    evaluated, _ = module.eval()(x, seqs)
    assert int(evaluated.is_boundary.sum()) == 2  # a probability of a quarter is below the threshold
    assert evaluated.early_exit is None


@pytest.mark.parametrize("decide", ["threshold", "sample"])
@torch.no_grad()
def test_the_last_action_is_an_input(decide: Any) -> None:
    """All at once, as one position after the other, where an action often turns on the one before it."""
    module = policy(start_ratio=2.0, decide=decide)
    module.last_action_weight.fill_(-3.0)
    module.weight.normal_()
    x = torch.randn(300, WIDTH, dtype=torch.float64)
    routing, _ = module(x, Sequences.from_lengths([300]))
    last, base = 0, x @ module.weight[0] + module.bias
    uniform = _draws(module, 300)
    for t in range(300):
        p = 1.0 if t == 0 else torch.sigmoid(base[t] - 3.0 * last).item()
        last = int(t == 0 or p > (uniform[t] if decide == "sample" else 0.5))
        assert routing.boundary_prob[t].item() == pytest.approx(p, abs=1e-12)
        assert routing.is_boundary[t].item() == last
    turns = (torch.sigmoid(base) > 0.5) & ~(torch.sigmoid(base - 3.0) > 0.5)
    assert turns.sum() > 20


def _draws(module: PolicyChunker, number: int) -> list[float]:
    limit: Tensor = module._limit(torch.zeros(number, dtype=torch.float64), torch.arange(number), is_trained=False)
    return limit.tolist() if len(limit) == number else [0.5] * number


def test_a_policy_cuts_the_outermost_stage_alone() -> None:
    table = HNetConfig.load(FOLDER / "models/tiny_2stage.json").to_dict()
    config = HNetConfig.from_dict(table | {"chunkers": [{"name": "dynamic"}, {"name": "policy"}]})
    with pytest.raises(ConfigError, match="entry 1: 'policy' is rewarded for bytes"):
        HNetLM(config)


def test_gradients_reach_the_router_through_smoothed_bytes() -> None:
    """Without a weight, smoothing of bytes is all that passes them; without either there are none."""
    ids = torch.arange(60) * 37 % 250
    for smoothing, has_gradient in (("bytes", True), ("chunks", True), ("none", False)):
        model: Any = small_model(small(chunking=[{"smoothing": smoothing, "confidence": "none"}]))
        model(ids).logits.square().sum().backward()
        grad = model.network.routing.q_proj.weight.grad
        assert (grad is not None and bool(grad.any())) == has_gradient
