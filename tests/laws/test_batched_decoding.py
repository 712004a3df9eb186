"""Sequences join, leave, are copied and reordered while others go on: each gives what it would give alone."""

from collections.abc import Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from law_subjects import EXACT_MODELS, ModelSubject
from torch import Tensor

from hnet_lm.model import HNetLM
from hnet_lm.sequences import Sequences
from thoroughness import examples

over_models = pytest.mark.parametrize("subject", EXACT_MODELS, ids=str)


class Stream:
    """One sequence: its bytes so far and the logits that the batch gave for them."""

    def __init__(self, ids: Tensor, logits: Tensor):
        self.ids = ids
        self.logits = logits

    def grown(self, ids: Tensor, logits: Tensor) -> "Stream":
        return Stream(torch.cat([self.ids, ids]), torch.cat([self.logits, logits]))


class Batch:
    """Streams and the state that they share, one row each."""

    def __init__(self, model: HNetLM):
        self.model = model
        self.streams: list[Stream] = []
        self.finished: list[Stream] = []
        self.state = model.new_state(0)

    def extend(self, lengths: list[int]) -> None:
        """Every stream goes on by so many random bytes."""
        ids = torch.randint(254, (sum(lengths),))
        out = self.model(ids, Sequences.from_lengths(lengths), self.state)
        self.state = out.state
        parts = zip(self.streams, ids.split(lengths), out.logits.split(lengths), strict=True)
        self.streams = [stream.grown(ids, logits) for stream, ids, logits in parts]

    def join(self, length: int) -> None:
        """A new stream is prefilled by itself and then joins."""
        ids = torch.randint(254, (length,))
        out = self.model(ids, state=self.model.new_state(1))
        self.state = type(self.state).join([self.state, out.state])
        self.streams.append(Stream(ids, out.logits))

    def keep(self, indices: list[int]) -> None:
        """The streams that go on, in their new order; one that is named twice is copied."""
        self.finished += [stream for i, stream in enumerate(self.streams) if i not in indices]
        self.streams = [self.streams[i] for i in indices]
        self.state = self.state.select(indices)

    def check(self) -> None:
        for stream in self.streams + self.finished:
            torch.testing.assert_close(stream.logits, self.model(stream.ids).logits, rtol=0, atol=1e-9)


@over_models
@settings(max_examples=examples(4))
@given(data=st.data())
@torch.no_grad()
def test_streams_come_and_go(subject: ModelSubject, data: st.DataObject) -> None:
    batch = Batch(subject.module)
    batch.join(data.draw(st.integers(0, 20)))
    for _ in range(data.draw(st.integers(3, 8))):
        num = len(batch.streams)
        match data.draw(st.sampled_from(["extend", "extend", "join", "keep"])):
            case "join":
                batch.join(data.draw(st.sampled_from([0, 1, 5, 30])))
            case "keep":
                batch.keep(data.draw(st.lists(st.integers(0, num - 1), max_size=4)) if num else [])
            case _:
                batch.extend(data.draw(st.lists(st.sampled_from([0, 1, 1, 2, 9]), min_size=num, max_size=num)))
    batch.check()


@over_models
@torch.no_grad()
def test_a_copied_state_goes_its_own_way(subject: ModelSubject) -> None:
    model = subject.module
    prompt, one, other = torch.randint(254, (3, 12))
    state = model(prompt, state=model.new_state(1)).state
    copy = state.clone()
    first = model(one, state=state)
    second = model(other, state=copy)
    for ids, out in ((one, first), (other, second)):
        torch.testing.assert_close(out.logits, model(torch.cat([prompt, ids])).logits[12:], rtol=0, atol=1e-9)


@pytest.mark.parametrize("subject", [EXACT_MODELS[4], EXACT_MODELS[-1]], ids=str)
@torch.no_grad()
def test_64_ragged_streams_decode_as_64_single_ones(subject: ModelSubject) -> None:
    """Every third stream pauses at every step."""
    model, num, steps = subject.module, 64, 6
    prompts = [i % 23 for i in range(num)]
    sequences = [torch.randint(254, (length + steps,)) for length in prompts]

    def decode(members: list[int], lengths_of: Iterable[list[int]]) -> list[Tensor]:
        state, done = model.new_state(len(members)), [0] * len(members)
        outputs: list[list[Tensor]] = [[] for _ in members]
        for lengths in lengths_of:
            ids = torch.cat([sequences[m][d : d + n] for m, d, n in zip(members, done, lengths, strict=True)])
            out = model(ids, Sequences.from_lengths(lengths), state)
            state, done = out.state, [d + n for d, n in zip(done, lengths, strict=True)]
            for output, logits in zip(outputs, out.logits.split(lengths), strict=True):
                output.append(logits)
        return [torch.cat(output) for output in outputs]

    pausing = [[int((i + step) % 3 != 0) for i in range(num)] for step in range(steps * 3 // 2)]
    together = decode(list(range(num)), [prompts, *pausing])
    for i, logits in enumerate(together):
        if i % 16 == 0:  # one byte at a time for some, and in one piece, which is the same, for all
            (single,) = decode([i], [[prompts[i]], *[[1]] * steps])
            torch.testing.assert_close(logits, single[: len(logits)], rtol=0, atol=1e-9)
        torch.testing.assert_close(logits, model(sequences[i]).logits[: len(logits)], rtol=0, atol=1e-9)


@over_models
@torch.no_grad()
def test_equal_prompts_decode_identically(subject: ModelSubject) -> None:
    """Wherever in the batch they stand, and whatever stands beside them."""
    model = subject.module
    prompt, other = torch.randint(254, (30,)), torch.randint(254, (41,))
    members = [other, prompt, other[:7], prompt, prompt]
    lengths = [len(ids) for ids in members]
    out = model(torch.cat(members), Sequences.from_lengths(lengths), model.new_state(len(members)))
    for _ in range(12):
        last = out.logits.split(lengths)
        next_ids = torch.stack([logits[-1].argmax() for logits in last])
        for same in (3, 4):
            torch.testing.assert_close(last[same], last[1], rtol=0, atol=1e-12)
            assert next_ids[same] == next_ids[1]
        lengths = [1] * len(members)
        out = model(next_ids, Sequences.from_lengths(lengths), out.state)
