"""The sum over taps as it is written, compiled; a range of channels a thread.

The input is read where it lies, also within wider rows and in bfloat16. Only it is kept for the backward pass, which
computes the sum again.
"""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.causal_conv._loops import STRIP, loops
from hnet_lm.ops.native import ONE, array, in_rows, ranges, rows, run
from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    wide, num_channels = torch.promote_types(x.dtype, torch.float32), x.shape[1]
    shape = seqs.num_sequences, weight.shape[1] - 1, num_channels
    past = x.new_zeros(shape, dtype=wide) if state is None else seqs.owned(state).to(wide)
    taps, bias = weight.T.to(wide).contiguous(), bias.to(wide)[None]
    y, last = _CausalConv.apply(x, taps, bias, past.flatten(0, 1), seqs.cu_seqlens)
    return y, None if state is None else seqs.replaced(state, last.view(shape))


class _CausalConv(torch.autograd.Function):
    """All are matrices of the channels; `past` has the rows of one sequence after those of another."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
        x = in_rows(x)
        ctx.save_for_backward(x, taps, bias, past, bounds)
        y, last = torch.empty(x.shape, dtype=x.dtype), torch.empty(past.shape, dtype=past.dtype)
        inputs = (*map(rows, (x, taps, bias, past)), array(bounds))
        run(loops(len(taps)).forward, *_work(x, taps), *inputs, rows(y), rows(last))
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, taps, bias, past, bounds = ctx.saved_tensors
        grad_y, grad_last = in_rows(grad_y), in_rows(grad_last)
        grad_x, grad_past = torch.empty(x.shape, dtype=x.dtype), torch.empty(past.shape, dtype=past.dtype)
        grad_taps, grad_bias = torch.zeros_like(taps), torch.zeros_like(bias)
        inputs = (*map(rows, (grad_y, grad_last, x, taps, bias, past)), array(bounds))
        run(loops(len(taps)).backward, *_work(x, taps), *inputs, *map(rows, (grad_x, grad_taps, grad_bias, grad_past)))
        return grad_x, grad_taps, grad_bias, grad_past, None


def _work(x: Tensor, taps: Tensor) -> tuple[list[tuple[int, int]], Any, int]:
    """Ranges of strips; a number of the type that is computed in; channels."""
    (num_positions, num_channels), num_strips = x.shape, -(-x.shape[1] // STRIP)
    return ranges(num_strips, num_positions * STRIP * len(taps)), ONE[taps.dtype], num_channels
