"""Gate and product in one pass, forward and backward; for few positions all of the MLP in one loop."""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.gated_mlp._loops import gate, gate_backwards, whole
from hnet_lm.ops.linear import LinearWeight, linear
from hnet_lm.ops.native import ONE, array, is_watched, ranges, run
from hnet_lm.ops.one_loop import operands
from hnet_lm.ops.rms_norm import PreNorm, pre_normed


def gated_mlp(x: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Tensor:
    ends = operands(x, pre_norm, fc1, fc2) if x.is_contiguous() else None
    if ends is None or is_watched(x, fc1, fc2, pre_norm and pre_norm.weight):
        x = pre_normed(x, pre_norm, "numba")
        return linear(_Gate.apply(linear(x, fc1, backend="numba")), fc2, backend="numba")
    out = torch.empty_like(x)
    whole(
        *x.shape,
        fc2.shape[1],
        ONE[x.dtype],
        x.data_ptr(),
        *ends,
        out.data_ptr(),
    )
    return out


class _Gate(torch.autograd.Function):
    """silu(gate) * y of [y, gate], computed in at least float32."""

    @staticmethod
    def forward(ctx: Any, y_gate: Tensor) -> Tensor:
        wide = y_gate.to(torch.promote_types(y_gate.dtype, torch.float32))
        ctx.save_for_backward(y_gate)
        product = wide.new_empty(len(wide), wide.shape[1] // 2)
        run(gate, ranges(*product.shape), array(wide), array(product))
        return product.to(y_gate.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (y_gate,) = ctx.saved_tensors
        wide = torch.promote_types(y_gate.dtype, torch.float32)
        grad, to_y_gate = grad.to(wide), torch.empty(y_gate.shape, dtype=wide)
        run(gate_backwards, ranges(*grad.shape), array(grad), array(y_gate.to(wide)), array(to_y_gate))
        return to_y_gate.to(y_gate.dtype)
