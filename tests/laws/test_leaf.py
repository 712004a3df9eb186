"""The leaf law: whatever backend is chosen for any one op, a whole model gives the same, with the same gradients."""

import pytest
import torch
from law_subjects import EXACT_MODELS, ModelSubject
from torch import Tensor

from hnet_lm.ops.dispatch import LIBRARIES, Op, op_names, use_backend
from hnet_lm.sequences import Sequences

CHOICES = [
    (op, backend)
    for op in op_names()
    for backend in Op(f"hnet_lm.ops.{op}").available()
    if backend not in LIBRARIES  # those are for GPUs
]
SUBJECTS = [subject for subject in EXACT_MODELS if str(subject) in ("1 stage widening", "2 stages m/T/t")]
PROMPTS, LENGTHS = [3, 9, 0, 1], [18, 0, 1, 9]


def results(subject: ModelSubject, ids: Tensor, prompts: Tensor) -> list[Tensor]:
    """Logits of a training forward and of a call that goes on from a state, and a gradient for every parameter."""
    model = subject.module
    logits = model(ids, Sequences.from_lengths(LENGTHS)).logits
    state = model(prompts, Sequences.from_lengths(PROMPTS), model.new_state(len(PROMPTS))).state
    further = model(ids, Sequences.from_lengths(LENGTHS), state).logits
    weights = torch.linspace(-1, 1, logits.numel(), dtype=logits.dtype).view_as(logits)
    gradients = torch.autograd.grad(((logits + further) * weights).sum(), list(model.parameters()), allow_unused=True)
    return [logits.detach(), further.detach(), *(torch.zeros(0) if grad is None else grad for grad in gradients)]


@pytest.mark.parametrize("subject", SUBJECTS, ids=str)
def test_any_one_op_on_any_backend(subject: ModelSubject) -> None:
    ids, prompts = subject.draw(LENGTHS), subject.draw(PROMPTS)
    wanted = results(subject, ids, prompts)
    assert {backend for _, backend in CHOICES} == {"reference", "eager", "cpu"}
    for op, backend in CHOICES:
        with use_backend(**{op: backend}):
            found = results(subject, ids, prompts)
        for actual, expected in zip(found, wanted, strict=True):
            scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
            torch.testing.assert_close(
                actual, expected, rtol=0, atol=subject.atol * scale, msg=lambda text, at=(op, backend): f"{at}: {text}"
            )
