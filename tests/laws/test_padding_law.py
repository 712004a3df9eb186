"""Padded rows, on the left or on the right, give what the packed rows give: outputs, routings, states, gradients."""

import pytest
import torch
from law_subjects import MODELS, ModelSubject
from torch import Tensor

from hnet_lm.losses import ratio_loss
from hnet_lm.sequences import Sequences

LENGTHS = [17, 0, 1, 30, 12]
WIDEST = 32

pytestmark = [
    pytest.mark.parametrize("subject", MODELS, ids=str),
    pytest.mark.parametrize("side", ["left", "right", "some of both"]),
]


def mask_of(side: str) -> Tensor:
    mask = torch.arange(WIDEST) < torch.tensor(LENGTHS)[:, None]
    flipped = {"left": [True], "right": [False], "some of both": [True, False, True, False, True]}[side]
    return torch.where(torch.tensor(flipped)[:, None], mask.flip(1), mask)


def padded(ids: Tensor, mask: Tensor) -> Tensor:
    """Rows with noise where there is padding: it must not matter."""
    noise = torch.randint(254, mask.shape)
    return noise.masked_scatter(mask, ids)


@torch.no_grad()
def test_outputs(subject: ModelSubject, side: str) -> None:
    ids, mask = subject.draw(LENGTHS), mask_of(side)
    expected = subject.module(ids, Sequences.from_lengths(LENGTHS))
    rows = padded(ids, mask)
    out = subject.module(rows, attention_mask=mask)
    assert subject.module(rows, attention_mask=mask.to(torch.int64)).logits.equal(out.logits)
    torch.testing.assert_close(out.logits[mask], expected.logits, rtol=0, atol=subject.atol)
    assert out.logits[~mask].eq(0).all()
    for stage, (routing, packed) in enumerate(zip(out.routings, expected.routings, strict=True)):
        assert routing.valid is not None
        if stage == 0:
            assert routing.valid.equal(mask)
        assert routing.is_boundary[routing.valid].equal(packed.is_boundary)
        torch.testing.assert_close(routing.boundary_prob[routing.valid], packed.boundary_prob, rtol=0, atol=1e-5)
        torch.testing.assert_close(ratio_loss(routing, 3.0), ratio_loss(packed, 3.0))


@torch.no_grad()
def test_states(subject: ModelSubject, side: str) -> None:
    """After a padded prompt the sequences go on packed."""
    lengths = [length + 4 for length in LENGTHS]
    sequences = subject.draw(lengths).split(lengths)
    mask = mask_of(side)
    prompts = padded(torch.cat([s[:n] for s, n in zip(sequences, LENGTHS, strict=True)]), mask)
    state = subject.module(prompts, state=subject.new_state(5), attention_mask=mask).state
    rest = torch.stack([s[n:] for s, n in zip(sequences, LENGTHS, strict=True)])
    out = subject.module(rest, state=state)
    for logits, sequence, prompt in zip(out.logits, sequences, LENGTHS, strict=True):
        torch.testing.assert_close(logits, subject.alone(sequence)[prompt:], rtol=0, atol=subject.atol)


def test_gradients(subject: ModelSubject, side: str) -> None:
    model = subject.exact.module
    ids, mask = subject.exact.draw(LENGTHS), mask_of(side)
    weights = torch.randn(len(ids), 256)
    packed = model(ids, Sequences.from_lengths(LENGTHS)).logits
    rows = model(padded(ids, mask), attention_mask=mask).logits[mask]
    expected, actual = (
        torch.autograd.grad((y * weights).sum(), list(model.parameters()), allow_unused=True) for y in (packed, rows)
    )
    for value, wanted in zip(actual, expected, strict=True):
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-9)
