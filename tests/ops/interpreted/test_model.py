"""The laws on a small model all of whose ops run as kernels."""

from functools import cache

import pytest
import torch
from torch import Tensor

from hnet_lm.model import HNetLM
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.ops.ssd import ssd
from hnet_lm.sequences import Sequences
from hnet_lm.testing.small import TEXT, small_config, small_model

LENGTHS = (40, 0, 1, 19)


@cache
def model() -> HNetLM:
    return small_model(small_config({"name": "dynamic"})).float()


@cache
def ids() -> Tensor:
    return torch.tensor(list(TEXT[: sum(LENGTHS)]))


def of_kernels(ids: Tensor, seqs: Sequences, state: object = None) -> tuple[Tensor, object]:
    with use_backend("triton"):
        out = model()(ids, seqs, state)
    return out.logits, out.state


def close(actual: Tensor, expected: Tensor) -> None:
    scale = max(1.0, expected.abs().max().item()) if expected.numel() else 1.0
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-4 * scale)


def test_leaf_and_ragged() -> None:
    """The same logits and gradients as without kernels, and as of each sequence alone."""
    results = []
    for backend in ("triton", "eager"):
        with use_backend(backend):
            logits = model()(ids(), Sequences.from_lengths(LENGTHS)).logits
        weights = torch.linspace(-1, 1, logits.numel()).view_as(logits)
        results.append((logits.detach(), *torch.autograd.grad((logits * weights).sum(), list(model().parameters()))))
    for actual, expected in zip(*results, strict=True):
        close(actual, expected)
    alone = [of_kernels(part, Sequences.from_lengths([len(part)]))[0] for part in ids().split(LENGTHS) if len(part)]
    close(torch.cat(alone), results[0][0])


@torch.no_grad()
def test_split_causal_and_empty() -> None:
    whole, _ = of_kernels(ids()[:40], Sequences.from_lengths([40]))
    state, parts = model().new_state(2), []
    for part in ids()[:40].split([17, 1, 22]):
        logits, state = of_kernels(part, Sequences.from_lengths([len(part), 0]), state)
        parts.append(logits)
    close(torch.cat(parts), whole)
    changed = ids()[:40].clone()
    changed[30:] = 7
    assert of_kernels(changed, Sequences.from_lengths([40]))[0][:30].equal(whole[:30])


def test_bfloat16_is_refused() -> None:
    x = torch.zeros(2, 1, 4, dtype=torch.bfloat16)
    B, one = torch.zeros(2, 4, dtype=torch.bfloat16), torch.ones(1)
    with pytest.raises(
        ValueError, match="the backend 'triton' cannot do this: Triton's interpreter multiplies bfloat16"
    ):
        ssd(x, torch.ones(2, 1), -one, B, B, one, Sequences.from_lengths([2]), backend="triton")
