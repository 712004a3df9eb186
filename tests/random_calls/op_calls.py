"""Random calls of every op, on every backend."""

from collections.abc import Callable, Mapping
from random import Random
from typing import Any

import torch
from calls import Call, spoiled
from torch import Tensor

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.dispatch import OPS_PACKAGE, Op, op_names
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.mamba2 import mamba2
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.rotary import rotary
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.ops.ssd import ssd
from hnet_lm.ops.swiglu import swiglu
from hnet_lm.sequences import Sequences

Arguments = dict[str, Any]
FLOATING = (torch.float32, torch.float32, torch.float64, torch.bfloat16)


def sequences(random: Random) -> Sequences:
    lengths = [random.choice([0, 1, 1, 2, 3, 6]) for _ in range(random.randrange(4))]
    if random.random() < 0.05:
        lengths.append(70)  # more than a block of the parallel forms
    if random.random() < 0.5:
        return Sequences.from_lengths(lengths)
    return Sequences.from_lengths(lengths, torch.tensor(random.sample(range(num_slots(lengths)), len(lengths))).long())


def num_slots(lengths: list[int]) -> int:
    return len(lengths) + 2


class Draw:
    """The sizes and tensors of one call."""

    def __init__(self, random: Random, is_right: bool):
        self.random = random
        self.seqs = sequences(random)
        self.t = self.seqs.num_positions
        self.s = self.seqs.num_sequences if self.seqs.slots is None else num_slots(self.seqs.host_lengths)
        self.dtype = random.choice(FLOATING)
        self.wide = torch.promote_types(self.dtype, torch.float32)
        self.has_state = random.random() < (0.5 if is_right else 0.9)
        """A state says which sizes are right; without one, wrong sizes may be others that are right too."""

    def size(self) -> int:
        return self.random.choice([1, 2, 3, 4, 17])

    def normal(self, *shape: int, wide: bool = False) -> Tensor:
        return torch.randn(shape, dtype=self.wide if wide else self.dtype)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, dtype=self.wide) * 0.9 + 0.05

    def state(self, *shape: int) -> Tensor | None:
        return self.normal(self.s, *shape, wide=True) if self.has_state else None


def _ssd(draw: Draw) -> Arguments:
    h, p, n, t = draw.size(), 64, 8, draw.t  # loops are compiled for each p and n; these are small models'
    return {
        "x": draw.normal(t, h, p),
        "dt": draw.uniform(t, h),
        "A": -draw.uniform(h),
        "B": draw.normal(t, n),
        "C": draw.normal(t, n),
        "D": draw.normal(h, wide=True),
        "seqs": draw.seqs,
        "state": draw.state(n, h, p),
    }


def _mamba2(draw: Draw) -> Arguments:
    h, n, width = draw.size(), 8, 4
    d, channels = 64 * h, 64 * h + 2 * n
    return {
        "zxbcdt": draw.normal(draw.t, d + channels + h),
        "conv_weight": draw.normal(channels, width, wide=True),
        "conv_bias": draw.normal(channels, wide=True),
        "dt_bias": draw.normal(h, wide=True),
        "A_log": draw.normal(h, wide=True),
        "D": draw.normal(h, wide=True),
        "norm_weight": draw.normal(d, wide=True),
        "eps": 1e-5,
        "seqs": draw.seqs,
        "dtype": draw.random.choice([None, draw.dtype]),
    }


def _causal_conv(draw: Draw) -> Arguments:
    d, width = draw.size(), draw.random.choice([4, 4, 4, 70])  # loops are compiled for each width
    x, weight, bias = draw.normal(draw.t, d), draw.normal(d, width, wide=True), draw.normal(d, wide=True)
    return {"x": x, "weight": weight, "bias": bias, "seqs": draw.seqs, "state": draw.state(width - 1, d)}


def _rms_norm(draw: Draw) -> Arguments:
    d = draw.size()
    gate = draw.normal(draw.t, d) if draw.has_state else None
    dtype = draw.random.choice([None, draw.dtype, torch.float32])
    return {"x": draw.normal(draw.t, d), "weight": draw.normal(d, wide=True), "eps": 1e-5, "gate": gate, "dtype": dtype}


def _attention(draw: Draw) -> Arguments:
    h, p, window = draw.size(), draw.size(), draw.random.choice([-1, 0, 1, 3, 300])
    q, k, v = (draw.normal(draw.t, h, p) for _ in range(3))
    return {"q": q, "k": k, "v": v, "window": window, "seqs": draw.seqs, "state": _kv_state(draw, h, p, window)}


def _kv_state(draw: Draw, h: int, p: int, window: int) -> KVState | None:
    """That of sequences which have seen some positions, or none."""
    if not draw.has_state:
        return None
    state = KVState.new(draw.s, h, p, draw.dtype, torch.device("cpu"))
    if draw.random.random() < 0.3:
        return state
    before = Sequences.from_lengths([draw.random.randrange(5) for _ in range(draw.s)])
    q, k, v = (draw.normal(before.num_positions, h, p) for _ in range(3))
    return attention(q, k, v, window, before, state)[1]


def _rotary(draw: Draw) -> Arguments:
    h, p = draw.size(), draw.size()
    positions = torch.arange(draw.t) + draw.random.choice([0, 5, 1000])
    return {"x": draw.normal(draw.t, h, p), "positions": positions, "dim": draw.random.randrange(0, p + 1, 2)}


def _swiglu(draw: Draw) -> Arguments:
    f = draw.size()
    return {"y": draw.normal(draw.t, f), "gate": draw.normal(draw.t, f)}


def _ema_scan(draw: Draw) -> Arguments:
    d = draw.size()
    p = draw.uniform(draw.t)
    return {"x": draw.normal(draw.t, d, wide=True), "p": p, "seqs": draw.seqs, "state": draw.state(d)}


def _select_chunks(draw: Draw) -> Arguments:
    is_boundary = torch.rand(draw.t) < 0.5
    return {"x": draw.normal(draw.t, draw.size()), "is_boundary": is_boundary, "seqs": draw.seqs}


def _boundary_prob(draw: Draw) -> Arguments:
    d = draw.size()
    last_q = draw.state(d)
    has_seen = None if last_q is None else torch.rand(draw.s) < 0.7
    q, k = draw.normal(draw.t, d), draw.normal(draw.t, d)
    return {"q": q, "k": k, "seqs": draw.seqs, "last_q": last_q, "has_seen": has_seen}


OPS: Mapping[Callable[..., Any], Callable[[Draw], Arguments]] = {
    ssd: _ssd,
    mamba2: _mamba2,
    causal_conv: _causal_conv,
    rms_norm: _rms_norm,
    attention: _attention,
    rotary: _rotary,
    swiglu: _swiglu,
    ema_scan: _ema_scan,
    select_chunks: _select_chunks,
    boundary_prob: _boundary_prob,
}
CONSUMED = frozenset({"state", "last_q", "has_seen"})
assert {op.__name__ for op in OPS} == set(op_names())


def op_call(random: Random) -> Call:
    op = random.choice(list(OPS))
    num_spoiled = random.choice([0, 1, 1, 1, 2])
    arguments = spoiled(random, OPS[op](Draw(random, is_right=not num_spoiled)), num_spoiled)
    backend = random.choice([None, *(name for name in Op(f"{OPS_PACKAGE}.{op.__name__}").available())])
    if random.random() < 0.02:
        backend = random.choice(["fast", 3, ""])
    return Call(
        op.__name__,
        op,
        arguments,
        {"backend": backend},
        reference={"backend": "reference"},
        consumed=CONSUMED,
        is_right=not num_spoiled and backend in (None, "eager", "reference"),
        has_gradients=random.random() < 0.3,
    )
