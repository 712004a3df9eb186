"""Seeded models of the reference code: its outputs, losses, gradients and learning-rate multipliers are ours."""

import json
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from hnet_lm.losses import next_byte_loss, ratio_loss
from hnet_lm.model import HNetLM, Routing
from hnet_lm.official import load_official, parameter_names
from hnet_lm.ops import use_backend
from hnet_lm.sequences import Sequences

GOLDENS = Path(__file__).parent / "goldens"
CASES = ("isotropic_transformer", "one_stage", "same_width", "two_stage")

LOGITS, PROBS, LOSSES = 2e-5, 1e-5, 2e-6
RELATIVE_GRADIENT = 1e-4


@dataclass(frozen=True)
class Golden:
    case: dict[str, Any]
    expected: dict[str, Tensor]
    model: HNetLM

    @property
    def input_ids(self) -> Tensor:
        return self.expected["input_ids"]

    @cached_property
    def mask(self) -> Tensor:
        """(b, l) of the right-padded rows."""
        return torch.arange(self.input_ids.shape[1]) < self.expected["masked.lengths"][:, None]

    def stages(self, prefix: str, what: str) -> list[Tensor]:
        """What the reference recorded of every stage."""
        return [self.expected[f"{prefix}.stage{s}.{what}"] for s in range(self.model.config.num_stages)]


@cache
def load_golden(name: str) -> Golden:
    folder = GOLDENS / name
    case = json.loads((folder / "case.json").read_text())
    model = load_official(case["config"], folder / "weights.safetensors")
    return Golden(case, load_file(folder / "expected.safetensors"), model)


@pytest.fixture(params=CASES)
def golden(request: pytest.FixtureRequest) -> Golden:
    return load_golden(request.param)


@pytest.fixture(params=[None, "eager", "reference"], ids=["default", "eager", "reference"], autouse=True)
def backend(request: pytest.FixtureRequest):
    with use_backend(request.param):
        yield request.param


def close(actual: Tensor, expected: Tensor, atol: float) -> None:
    torch.testing.assert_close(actual, expected, atol=atol, rtol=0)


def test_packed_logits_and_boundaries(golden: Golden):
    with torch.no_grad():
        out = golden.model(golden.input_ids)
    close(out.logits, golden.expected["packed.logits"], LOGITS)
    seqs = Sequences.from_lengths([golden.input_ids.shape[1]] * len(golden.input_ids))
    with torch.no_grad():
        packed = golden.model(golden.input_ids.flatten(), seqs)
    close(packed.logits, golden.expected["packed.logits"].flatten(0, 1), LOGITS)
    assert_boundaries(packed.routings, golden.stages("packed", "boundary_mask"))
    for routing, prob in zip(packed.routings, golden.stages("packed", "boundary_prob"), strict=True):
        close(routing.boundary_prob, prob, PROBS)


def assert_boundaries(routings: tuple[Routing, ...], masks: list[Tensor]) -> None:
    for routing, mask in zip(routings, masks, strict=True):
        assert torch.equal(routing.is_boundary, mask)


@pytest.mark.parametrize("side", ["right", "left"])
def test_padded_rows(golden: Golden, side: str):
    """The same rows padded on the left must give what the reference gives for right-padded ones."""
    mask = golden.mask if side == "right" else golden.mask.flip(1)
    ids = torch.zeros_like(golden.input_ids).masked_scatter(mask, golden.input_ids[golden.mask])
    with torch.no_grad():
        out = golden.model(ids, attention_mask=mask)
    close(out.logits[mask], golden.expected["masked.logits"][golden.mask], LOGITS)
    if not golden.model.config.num_stages:
        return
    outer = out.routings[0]
    assert torch.equal(outer.is_boundary[mask], golden.expected["masked.stage0.boundary_mask"][golden.mask])
    close(outer.boundary_prob[mask], golden.expected["masked.stage0.boundary_prob"][golden.mask], PROBS)
    for s, inner in enumerate(out.routings[1:], start=1):
        assert inner.valid is not None
        mask = inner.valid
        assert torch.equal(inner.is_boundary[mask], golden.expected[f"masked.stage{s}.boundary_mask"][mask])
        close(inner.boundary_prob[mask], golden.expected[f"masked.stage{s}.boundary_prob"][mask], PROBS)


def test_ragged_batch(golden: Golden):
    seqs = Sequences(golden.expected["ragged.cu_seqlens"])
    with torch.no_grad():
        out = golden.model(golden.expected["ragged.input_ids"], seqs)
    close(out.logits, golden.expected["ragged.logits"], LOGITS)
    assert_boundaries(out.routings, golden.stages("ragged", "boundary_mask"))


def test_prefill_then_one_byte_at_a_time(golden: Golden):
    prefill, length = int(golden.expected["decode.prefill_length"]), golden.input_ids.shape[1]
    with torch.no_grad():
        out = golden.model(golden.input_ids[:, :prefill], state=golden.model.new_state(len(golden.input_ids)))
        logits = [out.logits[:, -1]]
        for position in range(prefill, length):
            out = golden.model(golden.input_ids[:, position : position + 1], state=out.state)
            logits.append(out.logits[:, -1])
    close(torch.stack(logits, 1), golden.expected["decode.logits"], LOGITS)


def test_losses_and_gradients(golden: Golden):
    model, expected = golden.model, golden.expected
    out = model(golden.input_ids)
    cross_entropy = next_byte_loss(out.logits[:, :-1], golden.input_ids[:, 1:])
    close(cross_entropy[None], expected["packed.cross_entropy"], LOSSES)
    loss = cross_entropy
    for s, (routing, target) in enumerate(zip(out.routings, golden.case["target_ratios"], strict=True)):
        ratio = ratio_loss(routing, target)
        close(ratio[None], expected[f"packed.stage{s}.ratio_loss"], LOSSES)
        loss = loss + golden.case["ratio_loss_weight"] * ratio
    close(loss[None], expected["packed.loss"], LOSSES)

    names = parameter_names(model)
    assert {f"grad.{name}" for name in names.values()} == {name for name in expected if name.startswith("grad.")}
    gradients = torch.autograd.grad(loss, list(model.parameters()))
    for (name, _), gradient in zip(model.named_parameters(), gradients, strict=True):
        reference = expected[f"grad.{names[name]}"]
        error = torch.linalg.vector_norm(gradient - reference) / torch.linalg.vector_norm(reference)
        assert error < RELATIVE_GRADIENT, f"{name}: relative error {error:.1e}"


def test_learning_rate_multipliers(golden: Golden):
    stages = golden.model.parameter_stages()
    multipliers = golden.case["lr_multiplier"]
    groups = golden.case["optimizer_groups"]
    assert {theirs: groups[theirs]["lr_multiplier"] for theirs in groups} == {
        theirs: multipliers[stages[ours]] for ours, theirs in parameter_names(golden.model).items()
    }
