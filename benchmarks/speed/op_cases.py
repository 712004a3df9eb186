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
    AttentionShape,
    AttentionWeights,
    KVState,
    LinearWeight,
    Mamba2State,
    Mamba2Weights,
    MLPLayer,
    PreNorm,
    RoundedWeight,
    attention,
    boundary_prob,
    causal_conv,
    ema_scan,
    gated_mlp,
    linear,
    mamba2,
    residual_layers,
    rms_norm,
    select_chunks,
    self_attention,
    ssd,
)
from hnet_lm.sequences import Sequences
from speed.settings import BYTES_PER_CHUNK

NUM_LAYERS = 8
"""Of those that are run as one op."""
NUM_SEEN = 512
"""Positions that attention has in its state when it decodes."""


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
        _mamba2(config, seqs),
        _attention("attention, inner stage", inner, chunks),
        _attention("attention, outer stage", outer, seqs),
        _self_attention(inner, chunks),
        _gated_mlp(inner, chunks),
        _linear("linear", inner, chunks),
        _boundary_prob(outer.d_model, seqs),
        _ema_scan(outer.d_model, chunks),
        _select_chunks(outer.d_model, is_boundary, seqs),
    ]


def decoding_op_cases(config: HNetConfig, device: torch.device) -> list[OpCase]:
    """Of one byte of one stream."""
    torch.manual_seed(0)
    seqs = Sequences.from_lengths([1], device=device)
    outer, inner = config.stages[0], config.stages[-1]
    return [
        _mamba2(config, seqs, is_decoding=True),
        _self_attention(inner, seqs, num_seen=NUM_SEEN),
        _gated_mlp(inner, seqs, is_decoding=True),
        _residual_layers(inner, seqs),
        _linear("linear, decoding", inner, seqs, is_decoding=True),
        _linear("linear, decoding with int8", inner, seqs, is_decoding=True, is_int8=True),
        _boundary_prob(outer.d_model, seqs, is_decoding=True),
    ]


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


def _mamba2(config: HNetConfig, seqs: Sequences, *, is_decoding: bool = False) -> OpCase:
    t, n, taps, d_model = seqs.num_positions, config.mamba2.d_state, config.mamba2.d_conv, config.stages[0].d_model
    d, b = d_model * config.mamba2.expand, seqs.num_sequences
    d_conv, heads = d + 2 * n, d // MAMBA2_HEAD_DIM
    u, in_proj, out_proj = (
        _random(seqs, t, d_model),
        _matrix(seqs, d + d_conv + heads, d_model),
        _matrix(seqs, d_model, d),
    )
    weights = Mamba2Weights(
        in_proj,
        conv=_random(seqs, d_conv, 1, taps),
        conv_bias=_random(seqs, d_conv),
        dt_bias=_random(seqs, heads, low=-7, high=-2),
        A_log=_random(seqs, heads, low=0, high=2.7),
        D=_random(seqs, heads),
        norm=_random(seqs, d),
        out_proj=out_proj,
    )
    pre_norm = _pre_norm(seqs, d_model)
    state = Mamba2State(
        conv=torch.zeros(b, taps - 1, d_conv, device=seqs.device),
        ssm=torch.zeros(b, n, heads, MAMBA2_HEAD_DIM, device=seqs.device),
    )
    projections = 2 * t * (in_proj.numel() + out_proj.numel())
    return OpCase(
        name="mamba2, decoding" if is_decoding else "mamba2",
        op="mamba2",
        shape=f"{t} positions, width {d_model}, inside {d}, state {n}",
        num_positions=t,
        flops=projections + 2 * 3 * t * d * n + 2 * t * d_conv * taps + 5 * t * d,
        inputs=() if is_decoding else (u, in_proj, *weights[1:-1], out_proj, pre_norm.weight),
        run=lambda backend: mamba2(
            u, weights, NORM_EPS, seqs, state if is_decoding else None, pre_norm=pre_norm, backend=backend
        )[0],
    )


def _self_attention(stage: StageConfig, seqs: Sequences, num_seen: int | None = None) -> OpCase:
    """Without a state, or with one that holds so many positions of each sequence."""
    t, d, sizes = seqs.num_positions, stage.d_model, stage.attention
    h, window = sizes.num_heads, sizes.window_size
    x, qkv_proj, out_proj = _random(seqs, t, d), _matrix(seqs, 3 * d, d), _matrix(seqs, d, d)
    weights, shape = AttentionWeights(qkv_proj, out_proj), AttentionShape(h, sizes.rotary_emb_dim, window)
    pre_norm = _pre_norm(seqs, d)
    past = None if num_seen is None else _past(seqs, num_seen, h, d // h, window)

    def run(backend: str) -> Tensor:
        # A step counts itself as seen: with a count of its own each time, every one is at the same position.
        state = past and KVState(past.keys, past.values, past.num_seen.clone())
        return self_attention(x, weights, shape, seqs, state, pre_norm=pre_norm, backend=backend)[0]

    pairs = sum(_num_visible(length + (num_seen or 0), window) * length for length in seqs.host_lengths)
    return OpCase(
        name="self_attention" if past is None else "self_attention, decoding",
        op="self_attention",
        shape=f"{t} positions in {seqs.num_sequences} sequences, {h} heads of {d // h}, window {window}"
        + (f", after {num_seen}" if past else ""),
        num_positions=t,
        flops=2 * t * (qkv_proj.numel() + out_proj.numel()) + pairs * (4 * d + 3 * h),
        inputs=(x, qkv_proj, out_proj, pre_norm.weight) if past is None else (),
        run=run,
    )


def _past(seqs: Sequences, num_seen: int, h: int, p: int, window: int) -> KVState:
    state = KVState.new(seqs.num_sequences, h, p, torch.float32, seqs.device)
    state.reserve(num_seen + 1, window)
    state.num_seen += num_seen
    return state


def _gated_mlp(stage: StageConfig, seqs: Sequences, *, is_decoding: bool = False) -> OpCase:
    t, d, f = seqs.num_positions, stage.d_model, stage.d_intermediate
    x, fc1, fc2, pre_norm = _random(seqs, t, d), _matrix(seqs, 2 * f, d), _matrix(seqs, d, f), _pre_norm(seqs, d)
    return OpCase(
        name="gated_mlp, decoding" if is_decoding else "gated_mlp",
        op="gated_mlp",
        shape=f"{t} positions, width {d}, inside {f}",
        num_positions=t,
        flops=2 * t * 3 * d * f + 5 * t * d,
        inputs=() if is_decoding else (x, fc1, fc2, pre_norm.weight),
        run=lambda backend: gated_mlp(x, fc1, fc2, pre_norm=pre_norm, backend=backend),
    )


def _residual_layers(stage: StageConfig, seqs: Sequences) -> OpCase:
    """The MLPs of a stage, in decoding."""
    t, d, f = seqs.num_positions, stage.d_model, stage.d_intermediate
    x = _random(seqs, t, d)
    layers = [
        (MLPLayer(_pre_norm(seqs, d), _matrix(seqs, 2 * f, d), _matrix(seqs, d, f)), None) for _ in range(NUM_LAYERS)
    ]
    return OpCase(
        name="residual_layers, decoding",
        op="residual_layers",
        shape=f"{t} positions, {NUM_LAYERS} MLPs of width {d}, inside {f}",
        num_positions=t,
        flops=NUM_LAYERS * (2 * t * 3 * d * f + 5 * t * d),
        inputs=(),
        run=lambda backend: residual_layers(x, layers, seqs, backend=backend)[0],
    )


def _linear(
    name: str, stage: StageConfig, seqs: Sequences, *, is_decoding: bool = False, is_int8: bool = False
) -> OpCase:
    t, d_in, d_out = seqs.num_positions, stage.d_model, 2 * stage.d_intermediate  # of an MLP's first map
    x, matrix = _random(seqs, t, d_in), _matrix(seqs, d_out, d_in)
    weight: LinearWeight = matrix
    if is_int8:
        integers = torch.randint(-127, 128, matrix.shape, dtype=torch.int8, device=seqs.device)
        weight = RoundedWeight(integers, _random(seqs, d_out, low=0.001, high=0.01))
    return OpCase(
        name=name,
        op="linear",
        shape=f"{t} positions, {d_in} to {d_out}",
        num_positions=t,
        flops=2 * t * d_in * d_out,
        inputs=() if is_decoding else (x, matrix),
        run=lambda backend: linear(x, weight, backend=backend),
    )


def _boundary_prob(d: int, seqs: Sequences, *, is_decoding: bool = False) -> OpCase:
    t, b = seqs.num_positions, seqs.num_sequences
    x, q_proj, k_proj = _random(seqs, t, d), _matrix(seqs, d, d), _matrix(seqs, d, d)
    last = torch.zeros(b, d, device=seqs.device) if is_decoding else None
    has_seen = torch.ones(b, dtype=torch.bool, device=seqs.device) if is_decoding else None
    return OpCase(
        name="boundary_prob, decoding" if is_decoding else "boundary_prob",
        op="boundary_prob",
        shape=f"{t} positions, width {d}",
        num_positions=t,
        flops=2 * t * 2 * d * d,
        inputs=() if is_decoding else (x, q_proj, k_proj),
        run=lambda backend: boundary_prob(x, q_proj, k_proj, seqs, last, has_seen, backend=backend)[0],
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


def _matrix(seqs: Sequences, d_out: int, d_in: int) -> Tensor:
    """Of a map that keeps the size of what it maps."""
    bound = (3 / d_in) ** 0.5
    return _random(seqs, d_out, d_in, low=-bound, high=bound)


def _pre_norm(seqs: Sequences, d: int) -> PreNorm:
    return PreNorm(_random(seqs, d), NORM_EPS)


def _random(seqs: Sequences, *shape: int, low: float = -1.0, high: float = 1.0) -> Tensor:
    return torch.empty(shape, device=seqs.device).uniform_(low, high).requires_grad_()
