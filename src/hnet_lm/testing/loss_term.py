"""The laws of a loss term: named means over positions, with the gradient that their values have."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from hnet_lm.losses import IGNORE_INDEX, LOSS_TERMS, LossInputs, LossTerm, term_values
from hnet_lm.model import Routing
from hnet_lm.sequences import Sequences

LENGTHS = (9, 1, 14)
STRIDES = (3, 2)
STEP = 1e-6
VOCABULARY, WIDTH = 256, 8

Leaves = dict[str, Tensor]


def check_loss_term(term: LossTerm) -> None:
    """In float64, for a model of two stages that learn. Raises AssertionError, with the law that is broken."""
    entry = LOSS_TERMS.written(term)
    assert LOSS_TERMS.parse(entry, "loss.terms") == term, f"its entry {entry} does not give the same keys back"
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        leaves = _leaves()
        values = _values(term, _inputs(leaves))
        assert values, "it gives no values"
        assert values.keys() == _values(term, _inputs(_leaves())).keys(), "its keys differ from call to call"
        for key, value in values.items():
            assert value.isfinite(), f"{key} is not finite"
            _check_gradient(term, leaves, key)
        _check_mean(term, leaves, values)
        _check_without_targets(term, leaves)


def _leaves() -> Leaves:
    """What a model of two stages gives for these lengths, as tensors to differentiate."""
    t = sum(LENGTHS)
    leaves = {"logits": torch.randn(t, VOCABULARY), "hidden": torch.randn(t, WIDTH)}
    leaves["early_exit 0"] = torch.randn(t, VOCABULARY)
    for stage, length in enumerate(_stage_lengths()):
        leaves[f"boundary_prob {stage}"] = torch.rand(length)
        leaves[f"boundary_logit {stage}"] = torch.randn(length)
    return {name: leaf.double().requires_grad_() for name, leaf in leaves.items()}


def _boundaries() -> list[Tensor]:
    """Of both stages: every few positions of each sequence."""
    found, lengths = [], list(LENGTHS)
    for stride in STRIDES:
        found.append(torch.cat([torch.arange(n) % stride == 0 for n in lengths]))
        lengths = [-(-n // stride) for n in lengths]
    return found


def _stage_lengths() -> list[int]:
    return [len(boundaries) for boundaries in _boundaries()]


def _inputs(leaves: Mapping[str, Tensor], copies: int = 1, targets: Tensor | None = None) -> LossInputs:
    """`copies` times the same sequences."""

    def repeated(x: Tensor) -> Tensor:
        return torch.cat([x] * copies)

    ids = torch.arange(sum(LENGTHS)) * 37 % 200
    if targets is None:
        targets = ids.roll(-1)
        targets[4] = IGNORE_INDEX
    lengths, routings = list(LENGTHS) * copies, []
    for stage, (is_boundary, stride) in enumerate(zip(_boundaries(), STRIDES, strict=True)):
        prob, logit = (repeated(leaves[f"boundary_{kind} {stage}"]) for kind in ("prob", "logit"))
        early_exit = repeated(leaves["early_exit 0"]) if stage == 0 else None
        seqs = Sequences.from_lengths(lengths)
        routings.append(Routing(prob, repeated(is_boundary), seqs, boundary_logit=logit, early_exit=early_exit))
        lengths = [-(-n // stride) for n in lengths]
    return LossInputs(
        repeated(leaves["logits"]),
        repeated(targets),
        repeated(leaves["hidden"]),
        tuple(routings),
        Sequences.from_lengths(list(LENGTHS) * copies).with_input_ids(repeated(ids)),
        progress=0.25,
    )


def _values(term: LossTerm, inputs: LossInputs) -> dict[str, Tensor]:
    return {found.key: found.value for found in term_values([term], inputs)}


def _check_gradient(term: LossTerm, leaves: Leaves, key: str) -> None:
    """Along a random direction of each input, unless its gradient is cut off, which a term may do on purpose."""
    value = _values(term, _inputs(leaves))[key]
    if not value.requires_grad:
        return
    grads = torch.autograd.grad(value, list(leaves.values()), allow_unused=True)
    for (name, leaf), grad in zip(leaves.items(), grads, strict=True):
        if grad is None or not grad.any():
            continue
        assert grad.isfinite().all(), f"gradient: that of {key} to {name} is not finite"
        direction = torch.randn_like(leaf)
        ends = []
        for sign in (1, -1):
            moved = {**leaves, name: leaf.detach() + sign * STEP * direction}
            with torch.no_grad():
                ends.append(_values(term, _inputs(moved))[key])
        slope, wanted = (grad * direction).sum(), (ends[0] - ends[1]) / (2 * STEP)
        assert torch.isclose(slope, wanted, rtol=1e-5, atol=1e-8), (
            f"gradient: {key} changes by {wanted:.6g} along a direction of {name}, its gradient says {slope:.6g}"
        )


def _check_mean(term: LossTerm, leaves: Leaves, values: Mapping[str, Any]) -> None:
    for key, value in _values(term, _inputs(leaves, copies=2)).items():
        assert torch.isclose(value, values[key], rtol=1e-9, atol=1e-12), (
            f"mean: {key} is {values[key]:.6g} for some sequences, and {value:.6g} for twice the same"
        )


def _check_without_targets(term: LossTerm, leaves: Leaves) -> None:
    nothing = torch.full((sum(LENGTHS),), IGNORE_INDEX)
    for key, value in _values(term, _inputs(leaves, targets=nothing)).items():
        assert value.isfinite(), f"without any target {key} is not finite"
