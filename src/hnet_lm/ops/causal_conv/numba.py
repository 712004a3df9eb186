"""The sum over taps as it is written, compiled; a range of channels a thread, position after position.

Only the input is kept for the backward pass, which computes the sum again.
"""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.causal_conv._loops import convolve, convolve_backwards
from hnet_lm.ops.native import array, ranges, run
from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    wide = torch.promote_types(x.dtype, torch.float32)
    shape = seqs.num_sequences, weight.shape[1] - 1, x.shape[1]
    past = x.new_zeros(shape, dtype=wide) if state is None else seqs.owned(state).to(wide)
    y, last = _CausalConv.apply(x.to(wide), weight.T.to(wide), bias.to(wide), past, seqs)
    return y.to(x.dtype), None if state is None else seqs.replaced(state, last)


class _CausalConv(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, seqs: Sequences
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, taps, bias, past)
        ctx.seqs = seqs
        y, last = torch.empty(x.shape, dtype=x.dtype), torch.empty(past.shape, dtype=x.dtype)
        run(convolve, _channels(x, taps), *map(array, (x, taps, bias, past, seqs.cu_seqlens, y, last)))
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, taps, bias, past = ctx.saved_tensors
        inputs = (grad_y, grad_last, x, taps, bias, past, ctx.seqs.cu_seqlens)
        grad_x, grad_past = torch.zeros(x.shape, dtype=x.dtype), torch.zeros(past.shape, dtype=x.dtype)
        grad_taps, grad_bias = torch.zeros(taps.shape, dtype=x.dtype), x.new_zeros(x.shape[1])
        outputs = (grad_x, grad_taps, grad_bias, grad_past)
        run(convolve_backwards, _channels(x, taps), *map(array, (*inputs, *outputs)))
        return *outputs, None


def _channels(x: Tensor, taps: Tensor) -> list[tuple[int, int]]:
    return ranges(x.shape[1], len(x) * len(taps))
