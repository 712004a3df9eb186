"""What attention computes of documents as long as those of the web: a row per position, and no padding."""

import importlib
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from hnet_lm.ops.attention import attention
from hnet_lm.ops.attention import eager as eager_backend
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

NUM_POSITIONS = 65_536
MEDIAN, SIGMA = 2200, 1.0
"""Of the lengths in bytes, which are log-normal."""


def web_lengths() -> list[int]:
    """Of the documents of one batch; the last one is cut at its end."""
    drawn = np.random.default_rng(0).lognormal(np.log(MEDIAN), SIGMA, 200).astype(int)
    ends = np.minimum(drawn.cumsum(), NUM_POSITIONS)
    lengths = [int(length) for length in np.diff(ends, prepend=0) if length]
    assert sum(lengths) == NUM_POSITIONS
    assert len(lengths) * max(lengths) > 2.5 * NUM_POSITIONS  # as many rows padding would make
    return lengths


def inputs() -> Tensor:
    return torch.zeros(3, NUM_POSITIONS, 1, 8)


@pytest.mark.parametrize("window", [-1, 1023])
def test_rows_of_torchs_attention_on_the_cpu(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of queries as many as there are positions; of keys, a window's bands see up to a band and a window more."""
    queries, pairs = [], []

    def count(q: Tensor, k: Tensor, v: Tensor, **_: Any) -> Tensor:
        queries.append(q.shape[0] * q.shape[2])
        pairs.append(q.shape[0] * q.shape[2] * k.shape[2])
        return q

    monkeypatch.setattr(eager_backend, "scaled_dot_product_attention", count)
    lengths = web_lengths()
    q, k, v = inputs()
    y, _ = attention(q, k, v, window, Sequences.from_lengths(lengths), backend="eager")
    assert len(y) == NUM_POSITIONS
    assert sum(queries) == NUM_POSITIONS
    if window < 0:
        assert sum(pairs) == sum(length**2 for length in lengths)
    else:
        assert sum(pairs) <= sum(length * min(length, 2 * (window + 1)) for length in lengths)


@pytest.mark.skipif(Op("hnet_lm.ops.attention").missing("varlen") is not None, reason="torch has no varlen_attn")
def test_rows_of_torchs_attention_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = importlib.import_module("hnet_lm.ops.attention.varlen")
    rows = []

    def count(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> Tensor:
        rows.append((len(q), len(k), len(v)))
        return q

    monkeypatch.setattr(backend, "varlen_attn", count)
    backend.attention(*inputs(), -1, Sequences.from_lengths(web_lengths()), None)
    assert rows == [(NUM_POSITIONS,) * 3]
