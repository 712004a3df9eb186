"""The sum over taps as it is written, compiled; a range of channels per thread.

The input is read where it is, also within wider rows and in bfloat16. Only it is kept for the backward pass, which
computes the sum again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hnet_lm.ops.causal_conv._loops import STRIP, Loops, loops
from hnet_lm.ops.compiled.memory import ONE, array, rows, with_unit_stride
from hnet_lm.ops.compiled.threads import run_ranges, split_range
from hnet_lm.sequences import Sequences

MAX_TAPS = 64
TYPES = (torch.float32, torch.float64, torch.bfloat16)


def supports(x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None) -> str | None:
    if x.device.type != "cpu":
        return f"it runs on the CPU, not on {x.device.type}"
    if x.dtype not in TYPES:
        return f"it knows {', '.join(map(str, TYPES))}"
    return f"there are more than {MAX_TAPS} taps" if weight.shape[1] > MAX_TAPS else None


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    wide, num_channels = torch.promote_types(x.dtype, torch.float32), x.shape[1]
    shape = seqs.num_sequences, weight.shape[1] - 1, num_channels
    past = x.new_zeros(shape, dtype=wide) if state is None else seqs.owned(state).to(wide)
    y, last = _conv(x, weight.T.to(wide), bias.to(wide)[None], past.flatten(0, 1), seqs.cu_seqlens)
    return y, None if state is None else seqs.replaced(state, last.view(shape))


def convolve(x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """y, and the last inputs of each sequence. In `past`, and there, the rows of all sequences follow one another."""
    x, taps, bias, past = with_unit_stride(x), taps.contiguous(), bias.contiguous(), past.contiguous()
    y, last = torch.empty(x.shape, dtype=x.dtype), torch.empty(past.shape, dtype=past.dtype)
    inputs = (*map(rows, (x, taps, bias, past)), array(cu_seqlens))
    run_ranges(_loops(taps).forward, *_work(x, taps), *inputs, rows(y), rows(last))
    return y, last


_conv = torch.library.custom_op("hnet_lm::causal_conv_cpu", mutates_args=())(convolve)


@_conv.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), past.new_empty(past.shape)


def convolve_backward(
    grad_y: Tensor,
    grad_last: Tensor,
    x: Tensor,
    taps: Tensor,
    bias: Tensor,
    past: Tensor,
    cu_seqlens: Tensor,
    grad_x: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to taps, bias and past; that to x is written to `grad_x`."""
    x, taps, bias, past = with_unit_stride(x), taps.contiguous(), bias.contiguous(), past.contiguous()
    grad_y, grad_last = with_unit_stride(grad_y), with_unit_stride(grad_last)
    grad_past = torch.empty(past.shape, dtype=past.dtype)
    grad_taps, grad_bias = torch.zeros_like(taps), torch.zeros(bias.shape, dtype=bias.dtype)
    inputs = (*map(rows, (grad_y, grad_last, x, taps, bias, past)), array(cu_seqlens))
    outputs = map(rows, (grad_x, grad_taps, grad_bias, grad_past))
    run_ranges(_loops(taps).backward, *_work(x, taps), *inputs, *outputs)
    return grad_taps, grad_bias, grad_past


@torch.library.custom_op("hnet_lm::causal_conv_cpu_backward", mutates_args=())
def _conv_backward(
    grad_y: Tensor, grad_last: Tensor, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to x, taps, bias and past."""
    grad_x = torch.empty(x.shape, dtype=x.dtype)
    return grad_x, *convolve_backward(grad_y, grad_last, x, taps, bias, past, cu_seqlens, grad_x)


@_conv_backward.register_fake
def _(
    grad_y: Tensor, grad_last: Tensor, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return x.new_empty(x.shape), taps.new_empty(taps.shape), bias.new_empty(bias.shape), past.new_empty(past.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> tuple[Tensor | None, ...]:
    return *_conv_backward(grad_y, grad_last, *ctx.saved_tensors), None


_conv.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.hnet_lm.causal_conv_cpu)
def _flops(x_shape: Any, taps_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * x_shape[0] * taps_shape[0] * taps_shape[1]


@register_flop_formula(torch.ops.hnet_lm.causal_conv_cpu_backward)
def _flops_backward(grad_y: Any, grad_last: Any, x_shape: Any, taps_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _flops(x_shape, taps_shape)


def _loops(taps: Tensor) -> Loops:
    return loops(len(taps))


def _work(x: Tensor, taps: Tensor) -> tuple[list[tuple[int, int]], Any, int]:
    """Ranges of strips; a number of the type of the computation; channels."""
    (num_positions, num_channels), num_strips = x.shape, -(-x.shape[1] // STRIP)
    return split_range(num_strips, num_positions * STRIP * len(taps)), ONE[taps.dtype], num_channels
