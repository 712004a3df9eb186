"""Gate, mean and scale of a position in one go, while it lies in the cache; a range of positions a thread."""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.native import ONE, addresses, array, is_watched, ranges, run
from hnet_lm.ops.rms_norm._loops import norm, norm_backwards


def rms_norm(x: Tensor, weight: Tensor, gate: Tensor | None, eps: float) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    x, wide_weight = _as(wide, x), _as(wide, weight)
    gate = gate if gate is None else _as(wide, gate)
    if is_watched(x, wide_weight, gate):
        y = _RMSNorm.apply(x, wide_weight, gate, eps)
    else:
        y = _norm(x, wide_weight, gate, eps, None)
    return _as(weight.dtype, y)


def _as(dtype: torch.dtype, x: Tensor) -> Tensor:
    return x if x.dtype == dtype else x.to(dtype)


def _norm(x: Tensor, weight: Tensor, gate: Tensor | None, eps: float, scale: Tensor | None) -> Tensor:
    """The norm; the factor of each position is written into `scale`."""
    x, weight, gate = x.contiguous(), weight.contiguous(), gate if gate is None else gate.contiguous()
    num_positions, d = x.shape
    y = torch.empty_like(x)
    sizes = (num_positions, d, type(ONE[x.dtype])(eps))
    run(norm, ranges(num_positions, d), *sizes, *addresses(x, weight, gate, y, scale))
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gate: Tensor | None, eps: float) -> Tensor:
        scale = x.new_empty(len(x))
        y = _norm(x, weight, gate, eps, scale)
        ctx.save_for_backward(x, weight, gate, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, gate, scale = ctx.saved_tensors
        has_gate, gate = gate is not None, x.new_empty(0, x.shape[1]) if gate is None else gate
        grad_x, grad_gate = torch.empty(x.shape, dtype=x.dtype), torch.empty(gate.shape, dtype=x.dtype)
        positions = ranges(len(x), 2 * x.shape[1])
        grad_weight = x.new_zeros(len(positions), x.shape[1])
        weight = weight.clone()  # no array may lie on the memory of a weight, see `at`
        inputs = map(array, (grad_y, x, weight, gate, scale))
        run(norm_backwards, positions, *inputs, *map(array, (grad_x, grad_weight, grad_gate)))
        return grad_x, grad_weight.sum(0), grad_gate if has_gate else None, None
