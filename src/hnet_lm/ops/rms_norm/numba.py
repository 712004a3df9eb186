"""Gate, mean and scale of a position in one go, while it lies in the cache; a range of positions a thread.

Everything is read and written in the type it has: what comes from a product in bfloat16, or goes into one, is never
copied to float32.
"""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.native import ONE, WIDEST, in_rows, is_watched, ranges, rows, run
from hnet_lm.ops.rms_norm._loops import norm, norm_backwards
from hnet_lm.ops.rms_norm.torch import rms_norm as wider

NOTHING = (ONE[torch.float32], 0, 0)


def rms_norm(x: Tensor, weight: Tensor, gate: Tensor | None, eps: float, dtype: torch.dtype) -> Tensor:
    if x.shape[1] > WIDEST or dtype not in ONE:
        return wider(x, weight, gate, eps, dtype)
    wide = torch.promote_types(x.dtype, torch.float32)
    weight = weight if weight.dtype == wide else weight.to(wide)
    if is_watched(x, weight, gate):
        return _RMSNorm.apply(x, weight, gate, eps, dtype)
    return _norm(in_rows(x), weight, gate if gate is None else in_rows(gate), eps, dtype, None)


def _norm(
    x: Tensor, weight: Tensor, gate: Tensor | None, eps: float, dtype: torch.dtype, scale: Tensor | None
) -> Tensor:
    """The norm; the factor of each position is written into `scale`."""
    num_positions, d = x.shape
    weight = weight.contiguous()
    y = torch.empty(x.shape, dtype=dtype)
    places = rows(x), weight.data_ptr(), _rows(gate), rows(y)
    run(norm, ranges(num_positions, d), d, _number(weight, eps), *places, 0 if scale is None else scale.data_ptr())
    return y


class _RMSNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, gate: Tensor | None, eps: float, dtype: torch.dtype) -> Tensor:
        x, gate = in_rows(x), gate if gate is None else in_rows(gate)
        scale = weight.new_empty(len(x))
        y = _norm(x, weight, gate, eps, dtype, scale)
        ctx.eps = eps
        ctx.save_for_backward(x, weight, gate, scale)
        return y

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, weight, gate, scale = ctx.saved_tensors
        grad_y, weight, d = in_rows(grad_y), weight.contiguous(), x.shape[1]
        grad_x = torch.empty(x.shape, dtype=x.dtype)
        grad_gate = None if gate is None else torch.empty(gate.shape, dtype=gate.dtype)
        positions = ranges(len(x), 2 * d)
        grad_weight = torch.empty(len(positions), d, dtype=weight.dtype)
        inputs = rows(grad_y), rows(x), weight.data_ptr(), _rows(gate), scale.data_ptr()
        outputs = rows(grad_x), rows(grad_weight), _rows(grad_gate)
        run(norm_backwards, positions, d, _number(weight, ctx.eps), *inputs, *outputs)
        return grad_x, grad_weight.sum(0), grad_gate, None, None


def _rows(x: Tensor | None) -> tuple[Any, int, int]:
    return NOTHING if x is None else rows(x)


def _number(weight: Tensor, eps: float) -> Any:
    return type(ONE[weight.dtype])(eps)
