"""Choosing the next byte of many requests at once, each by its own parameters.

Rows never meet: every operation here is along a row, in float64 on the CPU, and a row's only randomness is the uniform
number drawn by its own request. So a request's bytes do not depend on what else is in the batch. Choice is by inverse
distribution function in byte order, which a last-bit difference between two logits seldom turns.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from hnet_lm.generation.params import SamplingParams


class RandomStream:
    """Uniform numbers of one request: the k-th depends on the seed and on k alone (Philox)."""

    def __init__(self, seed: int | None) -> None:
        key = secrets.randbits(64) if seed is None else seed % 2**64
        self._generator = np.random.Generator(np.random.Philox(key=key))

    def next(self) -> float:
        """The next number, in [0, 1)."""
        return float(self._generator.random())


@dataclass(frozen=True)
class ByteLogprob:
    """A byte, its log-probability in nats, and the likeliest bytes at its place.

    The model's own probabilities: before penalties, temperature and filters. `byte` may be the model's end-of-text id;
    of a model of tokens it is the id of a token.
    """

    byte: int
    logprob: float
    top: tuple[tuple[int, float], ...] = ()


def sample(
    logits: Float[Tensor, "b v"],
    params: Sequence[SamplingParams],
    uniforms: Sequence[float],
    allowed: Bool[Tensor, "b v"],
    seen: Bool[Tensor, "b v"],
) -> Int[Tensor, " b"]:
    """One byte a row: `uniforms` in [0, 1), `allowed` what may come, `seen` what the repetition penalty is for."""
    logits = logits.to("cpu", torch.float64)
    penalty = _column(params, "repetition_penalty")
    logits = torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)
    logits = logits.masked_fill(~allowed, -torch.inf)
    best = logits.argmax(-1)
    temperature = _column(params, "temperature")
    greedy = temperature[:, 0] == 0
    if bool(greedy.all()):
        return best
    # The greatest first goes to 0: a tiny temperature then gives -inf beside it, never inf - inf.
    logits = logits - logits.amax(-1, keepdim=True)
    probs = (logits / temperature.masked_fill(greedy[:, None], 1.0)).softmax(-1)
    probs = probs * _kept(probs, params)
    cumulative = probs.cumsum(-1)
    target = torch.tensor(uniforms, dtype=torch.float64)[:, None] * cumulative[:, -1:]
    # the first byte whose cumulative probability passes the target: it has some probability itself
    drawn = torch.searchsorted(cumulative, target, right=True)[:, 0].clamp(max=logits.shape[-1] - 1)
    return torch.where(greedy, best, drawn)


def _kept(probs: Float[Tensor, "b v"], params: Sequence[SamplingParams]) -> Bool[Tensor, "b v"]:
    """What top-k, top-p and min-p leave; the likeliest byte always."""
    if all(p.top_k == 0 and p.top_p == 1 and p.min_p == 0 for p in params):
        return torch.ones_like(probs, dtype=torch.bool)
    ordered, order = probs.sort(dim=-1, descending=True, stable=True)
    rank = torch.arange(probs.shape[-1])
    top_k = _column(params, "top_k")
    kept = (rank < top_k) | (top_k == 0)
    within = ordered * kept
    before = within.cumsum(-1) - within
    top_p = _column(params, "top_p")
    kept &= (before < top_p * within.sum(-1, keepdim=True)) | (top_p == 1)
    kept &= ordered >= _column(params, "min_p") * ordered[:, :1]
    kept[:, 0] = True
    return torch.zeros_like(kept).scatter(-1, order, kept)


def log_probabilities(logits: Float[Tensor, "n v"], chosen: Int[Tensor, " n"], num_top: int) -> list[ByteLogprob]:
    """The model's log-probability of each row's chosen byte, with the `num_top` likeliest."""
    logprobs = logits.to("cpu", torch.float64).log_softmax(-1)
    taken = logprobs.gather(-1, chosen[:, None])[:, 0].tolist()
    if num_top == 0:
        return [ByteLogprob(byte, value) for byte, value in zip(chosen.tolist(), taken, strict=True)]
    values, bytes_ = (top.tolist() for top in logprobs.topk(min(num_top, logits.shape[-1]), dim=-1))
    tops = [tuple(zip(*pair, strict=True)) for pair in zip(bytes_, values, strict=True)]
    return [ByteLogprob(*row) for row in zip(chosen.tolist(), taken, tops, strict=True)]


def _column(params: Sequence[SamplingParams], name: str) -> Float[Tensor, "b 1"]:
    return torch.tensor([[getattr(p, name)] for p in params], dtype=torch.float64)
