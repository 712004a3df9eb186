"""How the cases are run: on which backends, over which sequences, and what of them is compared.

Backends are found in the ops' folders; a new backend file is tested without a word here.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import pytest
import torch
from op_cases import OpCase, Tensors
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

RAGGED = (64, 0, 1, 200, 63, 65, 0, 127, 128)
NUM_SLOTS = 12
SLOTS = (7, 3, 11, 0, 2, 10, 5, 1, 8)
"""The slots that the sequences of RAGGED own: permuted, and three of the twelve belong to nobody."""


def backends(name: str) -> list[str]:
    """Every backend file in the op's folder."""
    return Op(f"hnet_lm.ops.{name}").available()


def with_backends(cases: Iterable[OpCase], *, except_for: str = "") -> pytest.MarkDecorator:
    """Each case with each backend of its op, as the arguments `case` and `backend`."""
    pairs = [(case, backend) for case in cases for backend in backends(case.name) if backend != except_for]
    return pytest.mark.parametrize(("case", "backend"), pairs, ids=str)


def require_backend(name: str, backend: str) -> None:
    """Skip where what a backend builds upon is not installed."""
    try:
        Op(f"hnet_lm.ops.{name}").load(backend)
    except ImportError as error:
        pytest.skip(str(error))


@contextmanager
def threads(number: int) -> Iterator[None]:
    """Within the block, work may be divided among so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def ragged(slotted: bool) -> Sequences:
    return Sequences.from_lengths(RAGGED, torch.tensor(SLOTS) if slotted else None)


def run(
    case: OpCase,
    backend: str,
    inputs: Tensors,
    seqs: Sequences,
    state: Tensors | None,
    into: Callable[[str, Tensor], Tensor] = lambda _, value: value,
    autocast: bool = False,
) -> Tensors:
    """Output, final state, and the gradients to every input and to the initial state, by name.

    `into` turns each input into the type it is run with; `autocast` is bfloat16's, around the forward alone. The
    gradients are those of a fixed random combination.
    """
    leaves = {key: into(key, value).detach().clone().requires_grad_() for key, value in inputs.items()}
    carried = state and {key: into("state", value).detach().clone().requires_grad_() for key, value in state.items()}
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y, final = case.apply(leaves, seqs, carried and case.as_state(carried), backend)
    tensors = {} if final is None else case.as_tensors(final)
    results = {"y": y} | {f"final {key}": value for key, value in tensors.items()}
    weights = torch.Generator().manual_seed(1)
    terms = [
        (value.double() * torch.randn(value.shape, generator=weights, dtype=torch.float64)).sum()
        for value in results.values()
        if value.is_floating_point()
    ]
    differentiated = leaves | {f"state {key}": value for key, value in (carried or {}).items()}
    grads = torch.autograd.grad(
        sum(terms[1:], terms[0]), list(differentiated.values()), allow_unused=True, materialize_grads=True
    )
    return {key: value.detach() for key, value in results.items()} | {
        f"grad {key}": grad for key, grad in zip(differentiated, grads, strict=True)
    }


def assert_same(actual: Tensors, expected: Tensors, atol: float) -> None:
    """All results within atol of the expected, relative to the largest entry where that is above 1."""
    assert actual.keys() == expected.keys()
    for key, value in expected.items():
        scale = max(1.0, value.abs().max().item()) if value.numel() else 1.0
        torch.testing.assert_close(
            actual[key].double(), value.double(), rtol=0, atol=atol * scale, msg=lambda text, key=key: f"{key}: {text}"
        )
