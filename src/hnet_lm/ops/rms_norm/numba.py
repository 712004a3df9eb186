"""Gate, mean and scale of a position in one go, while it lies in the cache; a range of positions a thread."""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.native import array, ranges, run, weight_array
from hnet_lm.ops.rms_norm._loops import norm, norm_backwards


def rms_norm(x: Tensor, weight: Tensor, gate: Tensor | None, eps: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    gate = x.new_empty(0, x.shape[1]) if gate is None else gate
    inputs = (x.to(wide), weight.to(wide), gate.to(wide))
    y = _RMSNorm.apply(*inputs, eps) if torch.is_grad_enabled() else _norm(*inputs, eps)[0]
    return y.to(weight.dtype)


def _norm(x: Tensor, weight: Tensor, gate: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """The norm, and the factor of each position."""
    y, scale = torch.empty(x.shape, dtype=x.dtype), torch.empty(len(x), dtype=x.dtype)
    run(norm, ranges(*x.shape), array(x), weight_array(weight), array(gate), eps, array(y), array(scale))
    return y, scale


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gate: Tensor, eps: float) -> Tensor:
        y, scale = _norm(x, weight, gate, eps)
        ctx.save_for_backward(x, weight, gate, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, gate, scale = ctx.saved_tensors
        grad_x, grad_gate = torch.empty(x.shape, dtype=x.dtype), torch.empty(gate.shape, dtype=x.dtype)
        positions = ranges(len(x), 2 * x.shape[1])
        grad_weight = x.new_zeros(len(positions), x.shape[1])
        inputs = (array(grad_y), array(x), weight_array(weight), array(gate), array(scale))
        run(norm_backwards, positions, *inputs, *map(array, (grad_x, grad_weight, grad_gate)))
        return grad_x, grad_weight.sum(0), grad_gate, None
