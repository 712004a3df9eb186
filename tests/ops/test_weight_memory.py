"""No array is left lying on the memory of a weight: FSDP takes that memory away between two uses, and gives it back."""

from collections.abc import Callable

import pytest
import torch
from op_cases import CASES, OpCase
from op_runs import backends, ragged, with_backends
from torch import Tensor

from hnet_lm.ops import PreNorm, gated_mlp, linear, rms_norm
from hnet_lm.sequences import Sequences

MATRIX, VECTOR = (8, 8), (8,)
ON_WEIGHTS: dict[str, tuple[tuple[tuple[int, ...], ...], Callable[..., Tensor]]] = {
    "linear": ((MATRIX,), linear),
    "rms_norm": ((VECTOR,), lambda x, weight, backend: rms_norm(x, weight, None, 1e-5, backend=backend)),
    "gated_mlp": (
        ((16, 8), MATRIX, VECTOR),
        lambda x, fc1, fc2, norm, backend: gated_mlp(x, fc1, fc2, pre_norm=PreNorm(norm, 1e-5), backend=backend),
    ),
}
"""Ops without a state: the shapes of their weights, and how they are called."""


def take_memory_away(weight: Tensor) -> None:
    """RuntimeError where an array lies on it."""
    weight.untyped_storage().resize_(0)


def test_it_could_be_noticed() -> None:
    weight = torch.randn(3)
    array = weight.numpy()
    with pytest.raises(RuntimeError, match="not resizable"):
        take_memory_away(weight)
    assert len(array) == 3


@with_backends([case for case in CASES if case.shared()])
def test_ops_with_a_state(case: OpCase, backend: str) -> None:
    seqs, weights = ragged(slotted=False), case.shared().keys() - {"A"}  # which a mixer computes of its weight A_log
    leaves = {key: value.requires_grad_() for key, value in case.inputs(seqs.num_positions).items()}
    case.apply(leaves, seqs, None, backend)[0].sum().backward()
    step = Sequences.from_lengths([1, 1])
    with torch.no_grad():
        case.apply(case.of_rows(leaves, slice(2)), step, case.as_state(case.new_state(2)), backend)
    for name in weights:
        take_memory_away(leaves[name])


@pytest.mark.parametrize("num_positions", [2, 50])
@pytest.mark.parametrize(("name", "backend"), [(name, backend) for name in ON_WEIGHTS for backend in backends(name)])
def test_ops_without_a_state(name: str, backend: str, num_positions: int) -> None:
    shapes, apply = ON_WEIGHTS[name]
    weights = [torch.randn(shape, requires_grad=True) for shape in shapes]
    apply(torch.randn(num_positions, 8), *weights, backend=backend).sum().backward()
    with torch.no_grad():
        apply(torch.randn(num_positions, 8), *weights, backend=backend)
    for weight in weights:
        take_memory_away(weight)
