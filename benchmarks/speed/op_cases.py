"""The ops at the shapes that the bench model gives them in a training step.

Ops of the outer stage see bytes, those of the inner one as many chunks as cutting at random every `BYTES_PER_CHUNK`
bytes makes. FLOPs are counted as in `hnet_lm.model.flops`; an op that is not counted there has none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig
from hnet_lm.model.layers import NORM_EPS
from hnet_lm.ops.attention import attention
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.mamba2 import mamba2
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.rotary import rotary
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.ops.ssd import ssd
from hnet_lm.ops.swiglu import swiglu
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import StageConfig
from speed.settings import BYTES_PER_CHUNK


@dataclass(frozen=True)
class OpCase:
    """An op with its arguments."""

    name: str
    op: str
    shape: str
    num_positions: int
    flops: float | None
    """Of the forward pass."""
    inputs: tuple[Tensor, ...]
    """What gets a gradient."""
    run: Callable[[str], Tensor]
    """The output, computed by the backend of that name."""


def op_cases(config: HNetConfig, num_sequences: int, length: int, device: torch.device) -> list[OpCase]:
    """Of a training step on this many sequences of this length."""
    torch.manual_seed(0)
    seqs = Sequences.from_lengths([length] * num_sequences, device=device)
    is_boundary = torch.rand(seqs.num_positions, device=device) < 1 / BYTES_PER_CHUNK
    is_boundary[seqs.starts] = True
    chunk_lengths = [int(row.sum()) for row in is_boundary.split(length)]
    chunks = Sequences.from_lengths(chunk_lengths, device=device)
    outer, inner = config.stages[0], config.stages[-1]
    return [
        _mamba2(config, seqs),
        _ssd(config, seqs),
        _causal_conv(config, seqs),
        _rms_norm(outer.d_model * config.mamba2.expand, seqs),
        _attention("attention, inner stage", inner, chunks),
        _attention("attention, outer stage", outer, seqs),
        _rotary(inner, chunks),
        _swiglu(inner, chunks),
        _boundary_prob(outer.d_model, seqs),
        _ema_scan(outer.d_model, chunks),
        _select_chunks(outer.d_model, is_boundary, seqs),
    ]


def _mamba2(config: HNetConfig, seqs: Sequences) -> OpCase:
    t, n, width = seqs.num_positions, config.mamba2.d_state, config.mamba2.d_conv
    d = config.stages[0].d_model * config.mamba2.expand
    h, channels = d // MAMBA2_HEAD_DIM, d + 2 * n
    zxbcdt, taps, bias = _random(seqs, t, d + channels + h), _random(seqs, channels, width), _random(seqs, channels)
    dt_bias, A_log, D = (_random(seqs, h) for _ in range(3))
    norm = _random(seqs, d)
    return OpCase(
        name="mamba2, between the projections",
        op="mamba2",
        shape=f"{t} positions, width {d}, state {n}",
        num_positions=t,
        flops=t * (2 * 3 * d * n + 2 * channels * width + 5 * d),
        inputs=(zxbcdt, taps, bias, dt_bias, A_log, D, norm),
        run=lambda backend: mamba2(zxbcdt, taps, bias, dt_bias, A_log, D, norm, NORM_EPS, seqs, backend=backend),
    )


def _ssd(config: HNetConfig, seqs: Sequences) -> OpCase:
    t, n, p = seqs.num_positions, config.mamba2.d_state, MAMBA2_HEAD_DIM
    h = config.stages[0].d_model * config.mamba2.expand // p
    x, B, C, D = (_random(seqs, *shape) for shape in ((t, h, p), (t, n), (t, n), (h,)))
    dt = _random(seqs, t, h, low=1e-3, high=0.1)
    A = _random(seqs, h, low=-16, high=-1)
    return OpCase(
        name="ssd",
        op="ssd",
        shape=f"{t} positions, {h} heads of {p}, state {n}",
        num_positions=t,
        flops=2 * 3 * t * h * p * n,
        inputs=(x, dt, A, B, C, D),
        run=lambda backend: ssd(x, dt, A, B, C, D, seqs, backend=backend)[0],
    )


def _causal_conv(config: HNetConfig, seqs: Sequences) -> OpCase:
    t, width = seqs.num_positions, config.mamba2.d_conv
    d = config.stages[0].d_model * config.mamba2.expand + 2 * config.mamba2.d_state
    x, weight, bias = _random(seqs, t, d), _random(seqs, d, width), _random(seqs, d)
    return OpCase(
        name="causal_conv",
        op="causal_conv",
        shape=f"{t} positions, width {d}, {width} taps",
        num_positions=t,
        flops=2 * t * d * width,
        inputs=(x, weight, bias),
        run=lambda backend: causal_conv(x, weight, bias, seqs, backend=backend)[0],
    )


def _rms_norm(d: int, seqs: Sequences) -> OpCase:
    t = seqs.num_positions
    x, weight, gate = _random(seqs, t, d), _random(seqs, d), _random(seqs, t, d)
    return OpCase(
        name="rms_norm, gated",
        op="rms_norm",
        shape=f"{t} positions, width {d}",
        num_positions=t,
        flops=5 * t * d,
        inputs=(x, weight, gate),
        run=lambda backend: rms_norm(x, weight, NORM_EPS, gate, backend=backend),
    )


def _boundary_prob(d: int, seqs: Sequences) -> OpCase:
    t = seqs.num_positions
    q, k = _random(seqs, t, d), _random(seqs, t, d)
    return OpCase(
        name="boundary_prob",
        op="boundary_prob",
        shape=f"{t} positions, width {d}",
        num_positions=t,
        flops=None,
        inputs=(q, k),
        run=lambda backend: boundary_prob(q, k, seqs, backend=backend)[0],
    )


def _swiglu(stage: StageConfig, seqs: Sequences) -> OpCase:
    t, f = seqs.num_positions, stage.d_intermediate
    both = _random(seqs, t, 2 * f)
    return OpCase(
        name="swiglu",
        op="swiglu",
        shape=f"{t} positions, width {f}",
        num_positions=t,
        flops=5 * t * f,
        inputs=(both,),
        run=lambda backend: swiglu(*both.chunk(2, dim=-1), backend=backend),
    )


def _rotary(stage: StageConfig, seqs: Sequences) -> OpCase:
    t, h, dim = seqs.num_positions, stage.attention.num_heads, stage.attention.rotary_emb_dim
    p = stage.d_model // h
    qk = _random(seqs, t, 2 * h, p)
    return OpCase(
        name="rotary",
        op="rotary",
        shape=f"{t} positions, {2 * h} heads of {p}, {dim} entries rotated",
        num_positions=t,
        flops=None,
        inputs=(qk,),
        run=lambda backend: rotary(qk, seqs.positions, dim, backend=backend),
    )


def _attention(name: str, stage: StageConfig, seqs: Sequences) -> OpCase:
    t, h, window = seqs.num_positions, stage.attention.num_heads, stage.attention.window_size
    p = stage.d_model // h
    q, k, v = (_random(seqs, t, h, p) for _ in range(3))
    pairs = sum(length * _num_visible(length, window) for length in seqs.host_lengths)
    return OpCase(
        name=name,
        op="attention",
        shape=f"{t} positions in {seqs.num_sequences} sequences, {h} heads of {p}, window {window}",
        num_positions=t,
        flops=pairs * (4 * h * p + 3 * h),
        inputs=(q, k, v),
        run=lambda backend: attention(q, k, v, window, seqs, backend=backend)[0],
    )


def _ema_scan(d_model: int, seqs: Sequences) -> OpCase:
    t = seqs.num_positions
    x, p = _random(seqs, t, d_model), _random(seqs, t, low=0.5, high=0.99)
    return OpCase(
        name="ema_scan",
        op="ema_scan",
        shape=f"{t} positions, width {d_model}",
        num_positions=t,
        flops=None,
        inputs=(x, p),
        run=lambda backend: ema_scan(x, p, seqs, backend=backend)[0],
    )


def _select_chunks(d_model: int, is_boundary: Tensor, seqs: Sequences) -> OpCase:
    t = seqs.num_positions
    x = _random(seqs, t, d_model)
    return OpCase(
        name="select_chunks",
        op="select_chunks",
        shape=f"{t} positions, width {d_model}, {int(is_boundary.sum())} chunks",
        num_positions=t,
        flops=None,
        inputs=(x,),
        run=lambda backend: select_chunks(x, is_boundary, seqs, backend=backend)[0],
    )


def _num_visible(length: int, window: int) -> int:
    """Positions that one attends to."""
    return length if window < 0 else min(length, window + 1)


def _random(seqs: Sequences, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return torch.empty(shape, device=seqs.device).uniform_(low, high).requires_grad_()
