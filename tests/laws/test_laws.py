"""The laws of DESIGN on everything that carries state: split, ragged, causal, empty, reference."""

from collections.abc import Sequence

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from law_subjects import EVERYTHING, EXACT_MODELS, MODELS, MODULES, ModelSubject, Subject
from torch import Tensor

from hnet_lm.ops import use_backend
from hnet_lm.sequences import Sequences
from hnet_lm.state import tensors
from thoroughness import examples

RAGGED = (65, 0, 1, 64, 0, 63, 7)

every_subject = pytest.mark.parametrize("subject", EVERYTHING, ids=str)
in_float64 = pytest.mark.parametrize("subject", MODULES + EXACT_MODELS, ids=str)


def close(subject: Subject, actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=subject.atol)


def close_gradients(subject: Subject, actual: Sequence[Tensor | None], expected: Sequence[Tensor | None]) -> None:
    for value, wanted in zip(actual, expected, strict=True):
        assert (value is None) == (wanted is None)
        if value is not None and wanted is not None:
            scale = max(1.0, wanted.abs().max().item())
            torch.testing.assert_close(value, wanted, rtol=0, atol=subject.atol * scale)


@pytest.mark.parametrize("subject", MODELS, ids=str)
def test_the_test_data_cuts_often_and_not_always(subject: ModelSubject) -> None:
    """Else the laws would say little about chunks."""
    with torch.no_grad():
        out = subject.module(subject.draw([300]))
    for routing in out.routings:
        assert 0.2 < routing.is_boundary.float().mean() < 0.8


@every_subject
@torch.no_grad()
def test_split_at_every_cut(subject: Subject) -> None:
    """All cuts at once, as a ragged batch in which copy i of the sequence is cut after i positions."""
    length = 34
    cuts = range(length + 1)
    x = subject.draw([length])
    whole = subject.alone(x)
    before = torch.cat([torch.arange(cut) for cut in cuts])
    after = torch.cat([torch.arange(cut, length) for cut in cuts])
    state = subject.new_state(len(cuts))
    first, state = subject.run(x[before], Sequences.from_lengths(list(cuts)), state)
    second, _ = subject.run(x[after], Sequences.from_lengths([length - cut for cut in cuts]), state)
    close(subject, first, whole[before])
    close(subject, second, whole[after])


@every_subject
@settings(max_examples=examples(4))
@given(data=st.data())
@torch.no_grad()
def test_split_at_many_cuts(subject: Subject, data: st.DataObject) -> None:
    """Sequences that go on by any number of positions a call, in slots of any order."""
    pieces = data.draw(st.lists(st.tuples(*[st.sampled_from([0, 1, 1, 3, 20])] * 3), min_size=1, max_size=6))
    lengths = [sum(parts) for parts in zip(*pieces, strict=True)]
    slots = torch.tensor(data.draw(st.permutations(range(4)))[:3])
    sequences = subject.draw(lengths).split(lengths)
    state = subject.new_state(4)
    outputs: list[list[Tensor]] = [[], [], []]
    done = [0, 0, 0]
    for piece in pieces:
        x = torch.cat([s[d : d + n] for s, d, n in zip(sequences, done, piece, strict=True)])
        y, state = subject.run(x, Sequences.from_lengths(piece, slots), state)
        for output, part in zip(outputs, y.split(piece), strict=True):
            output.append(part)
        done = [d + n for d, n in zip(done, piece, strict=True)]
    for output, sequence in zip(outputs, sequences, strict=True):
        close(subject, torch.cat(output), subject.alone(sequence))


@every_subject
@torch.no_grad()
def test_one_position_at_a_time(subject: Subject) -> None:
    """Decoding is the same forward as training."""
    lengths = [14, 11]
    sequences = subject.draw(lengths).split(lengths)
    state, outputs = subject.new_state(2), []
    for t in range(max(lengths)):
        piece = [int(t < length) for length in lengths]
        y, state = subject.run(torch.cat([s[t : t + 1] for s in sequences]), Sequences.from_lengths(piece), state)
        outputs += list(y.split(piece))
    for i, sequence in enumerate(sequences):
        close(subject, torch.cat(outputs[i::2]), subject.alone(sequence))


@every_subject
@torch.no_grad()
def test_ragged_equals_each_alone(subject: Subject) -> None:
    """In any order, without a state and from a fresh one."""
    sequences = subject.draw(RAGGED).split(RAGGED)
    alone = [subject.alone(rows) for rows in sequences]
    for order in (range(len(RAGGED)), torch.randperm(len(RAGGED)).tolist()):
        lengths, x = [RAGGED[i] for i in order], torch.cat([sequences[i] for i in order])
        for state in (None, subject.new_state(len(lengths))):
            y, _ = subject.run(x, Sequences.from_lengths(lengths), state)
            close(subject, y, torch.cat([alone[i] for i in order]))


@every_subject
@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
def test_causal(subject: Subject, with_state: bool) -> None:
    """What comes later changes nothing before it, and gets no gradient from it."""
    lengths, cuts = [40, 25], [23, 4]
    seqs = Sequences.from_lengths(lengths)
    earlier = torch.cat([torch.arange(n) < cut for n, cut in zip(lengths, cuts, strict=True)])
    x, other = subject.draw(lengths), subject.draw(lengths)
    changed = torch.where(earlier.view(-1, *[1] * (x.dim() - 1)), x, other)
    state = subject.after(subject.draw([9, 30]), Sequences.from_lengths([9, 30])) if with_state else None

    y, vectors = subject.run_from_vectors(x, seqs, state and state.clone())
    (grad,) = torch.autograd.grad(y[earlier].square().sum(), vectors)
    assert grad[~earlier].eq(0).all()
    assert grad[earlier].ne(0).any()
    with torch.no_grad():
        close(subject, subject.run(changed, seqs, state and state.clone())[0][earlier], y[earlier].detach())


@every_subject
@torch.no_grad()
def test_empty_sequences_leave_their_state_bit_for_bit(subject: Subject) -> None:
    prompts = [9, 0, 30, 4]
    state = subject.after(subject.draw(prompts), Sequences.from_lengths(prompts))
    for lengths in ([0, 20, 0, 1], [1, 0, 1, 0], [0, 0, 0, 0]):
        seqs = Sequences.from_lengths(lengths)
        empty = [i for i, n in enumerate(lengths) if n == 0]
        before = state.select(empty)
        y, after = subject.run(subject.draw(lengths), seqs, state.clone())
        assert len(y) == sum(lengths)
        for old, new in zip(tensors(before), tensors(after.select(empty)), strict=True):
            assert new[:, : old.shape[1]].equal(old) if old.dim() > 1 else new.equal(old)


@every_subject
@torch.no_grad()
def test_slots_that_nobody_owns_stay_bit_for_bit(subject: Subject) -> None:
    prompts = [9, 0, 30, 4]
    state = subject.after(subject.draw(prompts), Sequences.from_lengths(prompts))
    before = state.select([0, 1])
    _, after = subject.run(subject.draw([5, 1]), Sequences.from_lengths([5, 1], torch.tensor([3, 2])), state)
    for old, new in zip(tensors(before), tensors(after.select([0, 1])), strict=True):
        assert new[:, : old.shape[1]].equal(old) if old.dim() > 1 else new.equal(old)


@every_subject
@pytest.mark.parametrize("with_state", [False, True], ids=["no state", "state"])
@torch.no_grad()
def test_no_sequences(subject: Subject, with_state: bool) -> None:
    y, state = subject.run(subject.draw([]), Sequences.from_lengths([]), subject.new_state(0) if with_state else None)
    assert len(y) == 0
    assert (state is None) is not with_state


@in_float64
@pytest.mark.parametrize("backend", ["reference", "eager"])
def test_every_backend(subject: Subject, backend: str) -> None:
    """All ops on another backend: the same outputs, final state, and gradients to inputs and parameters."""
    prompts, lengths = [5, 20, 0, 1], [40, 0, 1, 23]
    seqs = Sequences.from_lengths(lengths)
    state = subject.after(subject.draw(prompts), Sequences.from_lengths(prompts))
    x = subject.draw(lengths)

    def results() -> tuple[Tensor, list[Tensor], Sequence[Tensor | None]]:
        y, vectors = subject.run_from_vectors(x, seqs, state.clone())
        total = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        gradients = torch.autograd.grad(total, [vectors, *subject.module.parameters()], allow_unused=True)
        with torch.no_grad():
            return y.detach(), tensors(subject.run(x, seqs, state.clone())[1]), gradients

    y, final, gradients = results()
    with use_backend(backend):
        y_other, final_other, gradients_other = results()
    close(subject, y, y_other)
    for value, wanted in zip(final, final_other, strict=True):
        close(subject, value, wanted)
    close_gradients(subject, gradients, gradients_other)


@in_float64
def test_packed_documents_give_the_gradients_of_separate_ones(subject: Subject) -> None:
    lengths = [33, 1, 0, 18]
    x = subject.draw(lengths)

    def gradients(packs: list[list[int]]) -> Sequence[Tensor | None]:
        packed = x.split([sum(pack) for pack in packs])
        outputs = [
            subject.run_from_vectors(rows, Sequences.from_lengths(pack))[0]
            for rows, pack in zip(packed, packs, strict=True)
        ]
        y = torch.cat(outputs)
        total = (y * torch.linspace(-1, 1, y.numel(), dtype=y.dtype).view_as(y)).sum()
        return torch.autograd.grad(total, list(subject.module.parameters()), allow_unused=True)

    close_gradients(subject, gradients([lengths]), gradients([[length] for length in lengths]))
