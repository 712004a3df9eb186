"""A sum of shifted rows over all rows as if they were one sequence, with the first w-1 positions of each sequence (the
heads, whose windows reach back before its start) computed on their own.

Forward and backward are written out: they pass over the activation once a tap, without copies in between.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import silu

from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    dtype, wide = x.dtype, torch.promote_types(x.dtype, torch.float32)
    x, weight, bias = x.to(wide), weight.to(wide), bias.to(wide)
    if state is not None and seqs.max_length <= 1:
        y, state = _step(x, weight, bias, seqs.nonempty_only(), state)
        return silu(y).to(dtype), state
    width = weight.shape[1]
    past = x.new_zeros(seqs.num_sequences, width - 1, x.shape[1]) if state is None else seqs.owned(state).to(x.dtype)
    rows = seqs.memo(("conv", width), lambda: _rows(seqs, width))
    y = _CausalConv.apply(x, weight.T, bias, past.flatten(0, 1), rows, seqs.max_length < width)
    if state is None:
        return silu(y).to(dtype), None
    return silu(y).to(dtype), seqs.replaced(state, torch.cat([past.flatten(0, 1), x])[rows.last])


def _step(x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor) -> tuple[Tensor, Tensor]:
    """One position per sequence: its window is the carried inputs and itself."""
    seen = torch.cat([seqs.owned(state).to(x.dtype), x[:, None]], 1)  # b w d
    return (seen * weight.T).sum(1) + bias, seqs.replaced(state, seen[:, 1:])


class _Rows(NamedTuple):
    """Rows of interest; `windows` and `last` count first the carried inputs, w-1 per sequence, then the rows of x."""

    heads: Tensor
    """m: rows of x within the first w-1 positions of their sequence."""
    windows: Tensor
    """m w: the window of each head."""
    last: Tensor
    """b w-1: the last inputs of each sequence."""


def _rows(seqs: Sequences, width: int) -> _Rows:
    past = width - 1
    num_past = seqs.num_sequences * past

    def input_rows(sequence: Tensor, position: Tensor) -> Tensor:
        before = sequence * past + past + position
        return torch.where(position < 0, before, num_past + seqs.starts[sequence] + position)

    heads = (seqs.positions < past).nonzero().squeeze(1)
    window = torch.arange(-past, 1, device=seqs.device)
    windows = input_rows(seqs.sequence_ids[heads][:, None], seqs.positions[heads][:, None] + window)
    ids = torch.arange(seqs.num_sequences, device=seqs.device)
    last = input_rows(ids[:, None], seqs.lengths[:, None] + window[:-1])
    return _Rows(heads, windows, last)


class _CausalConv(torch.autograd.Function):
    """y[t] = bias + sum_k taps[k] x[t - (w-1) + k]; `only_heads` says that every row is a head."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, rows: _Rows, only_heads: bool) -> Tensor:
        seen = _seen(x, past, rows)  # m w d
        y_heads = (seen * taps).sum(1) + bias
        ctx.save_for_backward(x, taps, past)
        ctx.rows, ctx.only_heads = rows, only_heads
        if only_heads:
            return y_heads
        y = torch.addcmul(bias, x, taps[-1])
        for back, tap in enumerate(taps[:-1].flip(0), start=1):
            y[back:].addcmul_(x[:-back], tap)
        return y.index_copy_(0, rows.heads, y_heads)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        x, taps, past = ctx.saved_tensors
        rows: _Rows = ctx.rows
        seen, grad_heads = _seen(x, past, rows), grad[rows.heads]
        grad_bias = grad.sum(0)
        grad_taps = torch.einsum("md,mwd->wd", grad_heads, seen)
        grad_inputs = grad.new_zeros(len(past) + len(x), x.shape[1])
        grad_x = grad_inputs[len(past) :]
        if not ctx.only_heads:
            grad = grad.index_fill(0, rows.heads, 0)
            torch.mul(grad, taps[-1], out=grad_x)
            grad_taps[-1] += (grad * x).sum(0)
            for back, tap in enumerate(taps[:-1].flip(0), start=1):
                grad_x[:-back].addcmul_(grad[back:], tap)
                grad_taps[-1 - back] += (grad[back:] * x[:-back]).sum(0)
        grad_inputs.index_add_(0, rows.windows.flatten(), (grad_heads[:, None] * taps).flatten(0, 1))
        return grad_x, grad_taps, grad_bias, grad_inputs[: len(past)], None, None


def _seen(x: Tensor, past: Tensor, rows: _Rows) -> Tensor:
    """The inputs in the window of every head, (m, w, d), without joining carried and new ones into one buffer."""
    is_past = (rows.windows < len(past))[..., None]
    if not len(x) or not len(past):
        return torch.cat([past, x])[rows.windows]
    from_past = past[rows.windows.clamp(max=len(past) - 1)]
    from_x = x[(rows.windows - len(past)).clamp(min=0)]
    return torch.where(is_past, from_past, from_x)
