"""How torch's attention of packed sequences is called, without a GPU to call it on."""

import importlib
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

pytestmark = pytest.mark.skipif(
    Op("hnet_lm.ops.attention").missing("varlen") is not None, reason="this version of torch has no varlen_attn"
)
LENGTHS = (5, 0, 1, 9)


@pytest.fixture
def backend() -> Any:
    return importlib.import_module("hnet_lm.ops.attention.varlen")


def stand_in(
    q: Tensor, k: Tensor, v: Tensor, cu_q: Tensor, cu_k: Tensor, max_q: int, max_k: int, **seen: Any
) -> Tensor:
    """What the documentation of varlen_attn says it computes."""
    assert cu_q.dtype == cu_k.dtype == torch.int32
    assert cu_q.diff().max() == max_q == max_k
    (left, right), parts = seen["window_size"], []
    for start, end in pairwise(cu_q.tolist()):
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        mask = (distance >= -right) & ((distance <= left) | (left < 0))
        scores = torch.einsum("ihp,jhp->hij", q[start:end], k[start:end]) * q.shape[2] ** -0.5
        weights = scores.masked_fill(~mask, float("-inf")).softmax(-1)
        parts.append(torch.einsum("hij,jhp->ihp", weights, v[start:end]))
    return torch.cat(parts)


@pytest.mark.parametrize("window", [-1, 0, 3])
def test_our_windows_and_lengths_are_those_of_torch(backend: Any, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backend, "varlen_attn", stand_in)
    q, k, v = torch.randn(3, sum(LENGTHS), 2, 8)
    seqs = Sequences.from_lengths(LENGTHS)
    y, _ = backend.attention(q, k, v, window, seqs, None)
    torch.testing.assert_close(y, attention(q, k, v, window, seqs, backend="reference")[0])
    empty = KVState.new(len(LENGTHS), 2, 8, q.dtype, q.device)
    _, state = backend.attention(q, k, v, window, seqs, empty)
    assert state.num_seen.tolist() == list(LENGTHS)


def test_torch_has_what_is_passed(backend: Any) -> None:
    names = list(backend._PARAMETERS)
    assert names[:7] == ["query", "key", "value", "cu_seq_q", "cu_seq_k", "max_q", "max_k"]
    assert {"window_size", "is_causal"} & set(names)


def test_what_it_does_not_do(backend: Any) -> None:
    q = torch.zeros(1, 1, 8)
    seqs = Sequences.from_lengths([1])
    with pytest.raises(ValueError, match="the backend 'varlen' cannot do this: it runs on a GPU, not on cpu"):
        attention(q, q, q, -1, seqs, backend="varlen")

    class OnGpu:
        device, dtype, shape = torch.device("cuda"), torch.bfloat16, (1, 1, 12)

    x: Any = OnGpu()
    assert "multiple of 8" in backend.supports(x, x, x, -1, seqs, None)
    x.shape = (1, 1, 64)
    assert backend.supports(x, x, x, 5, seqs, None) is None
    held = KVState(*torch.zeros(2, 1, 3, 1, 8), torch.ones(1, dtype=torch.int64))
    assert "a state holds" in backend.supports(x, x, x, -1, seqs, held)
    x.dtype = torch.float32
    assert "it knows torch.bfloat16" in backend.supports(x, x, x, -1, seqs, None)
