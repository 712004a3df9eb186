"""A backend of an op against the float64 reference: outputs, all gradients and final states of ragged sequences."""

from collections.abc import Callable

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_cases import CASES, STATELESS_CASES, OpCase, Tensors

RAGGED = (64, 0, 1, 200, 63, 65, 0, 127, 128)
NUM_SLOTS = 12
SLOTS = (7, 3, 11, 0, 2, 10, 5, 1, 8)
"""The slots that the sequences of RAGGED own: permuted, and three of the twelve belong to nobody."""
FLOAT64_ATOL = 1e-11


def check_op_backend(op: str, backend: str, *, dtype: torch.dtype = torch.float32) -> None:
    """Compare a backend with the reference on every case of its op; `dtype` is what it computes in.

    `backend` is its name, as `use_backend` takes it. Raises AssertionError for what differs, and ValueError for a
    backend that does not exist or does not support this type.
    """
    cases = [case for case in (*CASES, *STATELESS_CASES) if case.name == op]
    if not cases:
        raise ValueError(f"there is no op {op!r}")
    with torch.random.fork_rng(devices=[]):
        for case in cases:
            torch.manual_seed(0)
            inputs, state = case.inputs(sum(RAGGED)), case.new_state(NUM_SLOTS)
            for seqs, carried in ((ragged(False), None), (ragged(True), state)):
                expected = run(case, "reference", inputs, seqs, carried or None, lambda _, x: x.double())
                found = run(case, backend, inputs, seqs, carried or None, lambda _, x: x.to(dtype))
                try:
                    assert_same(found, expected, FLOAT64_ATOL if dtype == torch.float64 else case.float32_atol)
                except AssertionError as error:
                    error.add_note(f"{case} on the backend {backend!r}, {'with a' if carried else 'no'} state")
                    raise


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
        (value.cpu().double() * torch.randn(value.shape, generator=weights, dtype=torch.float64)).sum()
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
            actual[key].cpu().double(),
            value.double(),
            rtol=0,
            atol=atol * scale,
            msg=lambda text, key=key: f"{key}: {text}",
        )
