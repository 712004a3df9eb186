"""The ops at the shapes that the bench model gives them, in a training step, and some in decoding one stream.

Ops of the outer stage see bytes, those of the inner one as many chunks as cutting at random every `BYTES_PER_CHUNK`
bytes makes. FLOPs are counted as in `hnet_lm.model.flops`; what is not counted there has none.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from hnet_lm.config import MAMBA2_HEAD_DIM, HNetConfig, StageConfig
from hnet_lm.model.layers import NORM_EPS
from hnet_lm.ops import (
    attention,
    causal_conv,
    ema_scan,
    int8_linear,
    mamba2_inner,
    rms_norm,
    select_chunks,
    ssd,
)
from hnet_lm.sequences import Sequences
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
    """What gets a gradient; none in decoding."""
    run: Callable[[str], Tensor]
    """The output, computed by the backend of that name."""


def op_cases(config: HNetConfig, num_sequences: int, length: int, device: torch.device) -> list[OpCase]:
    """Of a training step on so many sequences of so many bytes."""
    torch.manual_seed(0)
    seqs = Sequences.from_lengths([length] * num_sequences, device=device)
    is_boundary = torch.rand(seqs.num_positions, device=device) < 1 / BYTES_PER_CHUNK
    is_boundary[seqs.starts] = True
    chunk_lengths = [int(row.sum()) for row in is_boundary.split(length)]
    chunks = Sequences.from_lengths(chunk_lengths, device=device)
    outer, inner = config.stages[0], config.stages[-1]
    return [
        _ssd(config, seqs),
        _causal_conv(config, seqs),
        _rms_norm(outer.d_model * config.mamba2.expand, seqs),
        _mamba2_inner(config, seqs),
        _attention("attention, inner stage", inner, chunks),
        _attention("attention, outer stage", outer, seqs),
        _ema_scan(outer.d_model, chunks),
        _select_chunks(outer.d_model, is_boundary, seqs),
    ]


def decoding_op_cases(config: HNetConfig, device: torch.device) -> list[OpCase]:
    """Of one byte of one stream."""
    torch.manual_seed(0)
    seqs = Sequences.from_lengths([1], device=device)
    return [_mamba2_inner(config, seqs, is_decoding=True), _int8_linear(config.stages[-1], seqs)]


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
        run=lambda backend: rms_norm(x, weight, gate, NORM_EPS, backend=backend),
    )


def _mamba2_inner(config: HNetConfig, seqs: Sequences, *, is_decoding: bool = False) -> OpCase:
    t, n, taps = seqs.num_positions, config.mamba2.d_state, config.mamba2.d_conv
    d, b = config.stages[0].d_model * config.mamba2.expand, seqs.num_sequences
    d_conv, heads = d + 2 * n, d // MAMBA2_HEAD_DIM
    inputs = (
        _random(seqs, t, d + d_conv + heads),
        _random(seqs, d_conv, taps),
        _random(seqs, d_conv),
        _random(seqs, heads, low=-7, high=-2),  # dt_bias
        _random(seqs, heads, low=0, high=2.7),  # A_log
        _random(seqs, heads),
        _random(seqs, d),
    )
    conv_state = torch.zeros(b, taps - 1, d_conv, device=seqs.device) if is_decoding else None
    ssm_state = torch.zeros(b, n, heads, MAMBA2_HEAD_DIM, device=seqs.device) if is_decoding else None
    return OpCase(
        name="mamba2_inner, decoding" if is_decoding else "mamba2_inner",
        op="mamba2_inner",
        shape=f"{t} positions, width {d}, state {n}",
        num_positions=t,
        flops=2 * 3 * t * d * n + 2 * t * d_conv * taps + 5 * t * d,
        inputs=() if is_decoding else inputs,
        run=lambda backend: mamba2_inner(*inputs, NORM_EPS, seqs, conv_state, ssm_state, backend=backend)[0],
    )


def _int8_linear(stage: StageConfig, seqs: Sequences) -> OpCase:
    d_in, d_out = stage.d_model, 2 * stage.d_intermediate  # of an MLP's first map
    x, scale = _random(seqs, 1, d_in), _random(seqs, d_out, low=0.001, high=0.01)
    weight = torch.randint(-127, 128, (d_out, d_in), dtype=torch.int8, device=seqs.device)
    return OpCase(
        name="int8_linear, decoding",
        op="int8_linear",
        shape=f"1 position, {d_in} to {d_out}",
        num_positions=1,
        flops=2 * d_in * d_out,
        inputs=(),
        run=lambda backend: int8_linear(x, weight, scale, backend=backend),
    )


def _attention(name: str, stage: StageConfig, seqs: Sequences) -> OpCase:
    t, h, window = seqs.num_positions, stage.attention.num_heads, stage.attention.window_size
    p = stage.d_model // h
    q, k, v = (_random(seqs, t, h, p) for _ in range(3))
    pairs = sum(length * min(length, window + 1 if window >= 0 else length) for length in seqs.host_lengths)
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


def _random(seqs: Sequences, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return torch.empty(shape, device=seqs.device).uniform_(low, high).requires_grad_()
