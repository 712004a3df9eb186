"""The sum over taps as it is written, compiled; a range of channels a thread, position after position.

Only the input is kept for the backward pass, which computes the sum again.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.causal_conv._loops import STRIP, loops
from hnet_lm.ops.native import array, ranges, run
from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    wide, num_channels = torch.promote_types(x.dtype, torch.float32), x.shape[1]
    shape = seqs.num_sequences, weight.shape[1] - 1, num_channels
    past = x.new_zeros(shape, dtype=wide) if state is None else seqs.owned(state)
    weight, bias = (part.to(wide, copy=True) for part in (weight, bias))  # FSDP takes the memory of the weights away
    in_strips = (_strips(part.to(wide)) for part in (x, weight.T, bias, past))
    y, last = _CausalConv.apply(*in_strips, seqs.cu_seqlens)
    y = y.flatten(-2)[:, :num_channels].to(x.dtype)
    return y, None if state is None else seqs.replaced(state, last.flatten(-2)[..., :num_channels])


def _strips(x: Tensor) -> Tensor:
    """(..., channels) as (..., strips, STRIP), the last filled up with zeros."""
    missing = -x.shape[-1] % STRIP
    return (pad(x, (0, missing)) if missing else x).unflatten(-1, (-1, STRIP))


class _CausalConv(torch.autograd.Function):
    """All of this in strips."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor, bounds: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, taps, bias, past, bounds)
        y, last = torch.empty(x.shape, dtype=x.dtype), torch.empty(past.shape, dtype=x.dtype)
        run(loops(len(taps)).forward, _parts(x, taps), *map(array, (x, taps, bias, past, bounds, y, last)))
        return y, last

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_last: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, taps, bias, past, bounds = ctx.saved_tensors
        outputs = [torch.empty(part.shape, dtype=x.dtype) for part in (x, taps, bias, past)]
        inputs = (grad_y, grad_last, x, taps, bias, past, bounds)
        run(loops(len(taps)).backward, _parts(x, taps), *map(array, (*inputs, *outputs)))
        return *outputs, None


def _parts(x: Tensor, taps: Tensor) -> list[tuple[int, int]]:
    return ranges(x.shape[1], len(x) * STRIP * len(taps))
