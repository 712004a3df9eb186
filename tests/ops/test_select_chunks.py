"""select_chunks: the rows at boundaries, the sequences they form, and a gradient that goes back to them alone."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from op_runs import backends, require_backend

from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.sequences import Sequences
from hnet_lm.testing.op_backend import RAGGED

pytestmark = pytest.mark.parametrize("backend", backends("select_chunks"))


@pytest.fixture(autouse=True)
def _installed(backend: str) -> None:
    require_backend("select_chunks", backend)


@pytest.mark.parametrize("fraction", [0.0, 0.3, 1.0])
def test_equals_plain_indexing(backend: str, fraction: float) -> None:
    x = torch.randn(sum(RAGGED), 3, requires_grad=True)
    is_boundary = torch.rand(len(x)) < fraction
    slots = torch.randperm(12)[: len(RAGGED)]
    seqs = Sequences.from_lengths(RAGGED, slots)
    chunks, inner = select_chunks(x, is_boundary, seqs, backend=backend)
    assert chunks.equal(x[is_boundary])
    assert inner.host_lengths == [int(part.sum()) for part in is_boundary.split(RAGGED)]
    assert inner.slots is not None
    assert inner.slots.equal(slots)
    weights = torch.randn_like(chunks)
    (grad,) = torch.autograd.grad(chunks, x, weights)
    assert grad.equal(torch.zeros_like(x).index_put((is_boundary.nonzero().squeeze(1),), weights))


@given(lengths=st.lists(st.integers(0, 9), max_size=6), data=st.data())
def test_splits_anywhere(backend: str, lengths: list[int], data: st.DataObject) -> None:
    """The chunks of two pieces are the chunks of the whole."""
    is_boundary = torch.tensor(data.draw(st.lists(st.booleans(), min_size=sum(lengths), max_size=sum(lengths))))
    is_boundary = is_boundary.bool()
    cuts = [data.draw(st.integers(0, length)) for length in lengths]
    x = torch.arange(sum(lengths), dtype=torch.float32)[:, None]
    seqs = Sequences.from_lengths(lengths)
    is_first = seqs.positions < torch.tensor(cuts, dtype=torch.int64)[seqs.sequence_ids]
    rest = [length - cut for length, cut in zip(lengths, cuts, strict=True)]
    whole, inner = select_chunks(x, is_boundary, seqs, backend=backend)
    first, before = select_chunks(x[is_first], is_boundary[is_first], Sequences.from_lengths(cuts), backend=backend)
    second, after = select_chunks(x[~is_first], is_boundary[~is_first], Sequences.from_lengths(rest), backend=backend)
    assert inner.host_lengths == [a + b for a, b in zip(before.host_lengths, after.host_lengths, strict=True)]
    assert torch.cat([first, second]).sort(0).values.equal(whole)


def test_no_sequences(backend: str) -> None:
    chunks, inner = select_chunks(
        torch.zeros(0, 3), torch.zeros(0, dtype=torch.bool), Sequences.from_lengths([]), backend=backend
    )
    assert chunks.shape == (0, 3)
    assert inner.num_sequences == 0
