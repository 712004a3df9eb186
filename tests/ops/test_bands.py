"""Attention in several bands of queries equals the reference, with its gradients, and with what a state holds."""

import importlib

import pytest
import torch

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.sequences import Sequences

bands = importlib.import_module("hnet_lm.ops.attention.eager")
LENGTHS = (30, 1, 17, 0)
HEADS = (2, 3)


@pytest.fixture(autouse=True)
def short_bands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "MIN_BAND", 4)


@pytest.mark.parametrize("window", [0, 1, 4, 9, 16, 28])
def test_equals_the_reference(window: int) -> None:
    seqs = Sequences.from_lengths(LENGTHS)
    qkv = [torch.randn(sum(LENGTHS), *HEADS, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    towards = torch.randn(sum(LENGTHS), *HEADS, dtype=torch.float64)
    found = {}
    for backend in ("eager", "reference"):
        y, _ = attention(*qkv, window, seqs, backend=backend)
        found[backend] = (y, *torch.autograd.grad(y, qkv, towards))
    for actual, expected in zip(found["eager"], found["reference"], strict=True):
        torch.testing.assert_close(actual, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("most_pairs", [64, bands.MOST_PAIRS])
@pytest.mark.parametrize("window", [3, 9, -1])
def test_pieces_with_a_state_equal_the_whole(window: int, most_pairs: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bands, "MOST_PAIRS", most_pairs)
    qkv = [torch.randn(40, *HEADS, dtype=torch.float64) for _ in range(3)]
    whole, _ = attention(*qkv, window, Sequences.from_lengths([40]), backend="reference")
    state, pieces, start = KVState.new(1, *HEADS, torch.float64, torch.device("cpu")), [], 0
    for length in (3, 22, 15):
        piece = [part[start : start + length] for part in qkv]
        y, state = attention(*piece, window, Sequences.from_lengths([length]), state, backend="eager")
        pieces.append(y)
        start += length
    torch.testing.assert_close(torch.cat(pieces), whole, rtol=0, atol=1e-11)


@pytest.mark.parametrize("window", [5000, -1])
def test_masks_stay_small(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However far back is seen: validation in pieces goes on from all that came before."""
    sizes, attend = [], bands.scaled_dot_product_attention

    def noted(*args: torch.Tensor, attn_mask: torch.Tensor, **options: object) -> torch.Tensor:
        sizes.append(attn_mask.numel())
        return attend(*args, attn_mask=attn_mask, **options)

    monkeypatch.setattr(bands, "MOST_PAIRS", 1 << 16)
    seen, new = (torch.randn(length, 1, 4) for length in (6000, 2000))
    state = KVState.new(1, 1, 4, torch.float32, torch.device("cpu"))
    _, state = attention(seen, seen, seen, window, Sequences.from_lengths([6000]), state, backend="eager")
    monkeypatch.setattr(bands, "scaled_dot_product_attention", noted)
    attention(new, new, new, window, Sequences.from_lengths([2000]), state, backend="eager")
    assert len(sizes) > 100
    assert max(sizes) <= 2 * bands.MOST_PAIRS
