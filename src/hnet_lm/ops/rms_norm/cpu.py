"""Gate, mean and scale of a position in one pass, while it is in the cache; a range of positions per thread.

Everything is read and written in the type it has: what comes from a product in bfloat16, or goes into one, is never
copied to float32.
"""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.compiled.memory import MAX_WIDTH, ONE, rows, with_unit_stride
from hnet_lm.ops.compiled.threads import run_ranges, split_range
from hnet_lm.ops.rms_norm._loops import norm, norm_backward

NO_ROWS = (ONE[torch.float32], 0, 0)
TYPES = (torch.float32, torch.float64, torch.bfloat16)


def supports(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> str | None:
    if x.device.type != "cpu":
        return f"it runs on the CPU, not on {x.device.type}"
    if x.shape[1] > MAX_WIDTH:
        return f"rows are wider than {MAX_WIDTH}"
    if any(each not in TYPES for each in (x.dtype, dtype, x.dtype if gate is None else gate.dtype)):
        return f"it knows {', '.join(map(str, TYPES))}"
    if gate is not None and (gate.dtype == torch.float64) != (x.dtype == torch.float64):
        return f"it computes x and gate in one type, not {x.dtype} and {gate.dtype}"
    return None


def rms_norm(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    y, _ = _rms_norm(x, weight.to(wide), eps, gate, dtype)
    return y


def normalize(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The norm, and the factor of each position, 1 / sqrt(mean + eps)."""
    x, gate, weight = with_unit_stride(x), None if gate is None else with_unit_stride(gate), weight.contiguous()
    y, scale = torch.empty(x.shape, dtype=dtype), weight.new_empty(x.shape[0])
    arguments = x.shape[1], _number(weight, eps), rows(x), weight.data_ptr(), _rows(gate), rows(y), scale.data_ptr()
    run_ranges(norm, split_range(*x.shape), *arguments)
    return y, scale


_rms_norm = torch.library.custom_op("hnet_lm::rms_norm_cpu", mutates_args=())(normalize)


@_rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=dtype), weight.new_empty(x.shape[0])


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    eps: float,
    gate: Tensor | None,
    scale: Tensor,
    grad_x: Tensor,
    grad_gate: Tensor,
) -> Tensor:
    """The gradient to the weight; those to x and the gate are written to `grad_x` and `grad_gate`."""
    x, gate, weight = with_unit_stride(x), None if gate is None else with_unit_stride(gate), weight.contiguous()
    grad_y, d = with_unit_stride(grad_y), x.shape[1]
    positions = split_range(len(x), 2 * d)
    grad_weight = torch.empty(len(positions), d, dtype=weight.dtype)
    inputs = rows(grad_y), rows(x), weight.data_ptr(), _rows(gate), scale.data_ptr()
    outputs = rows(grad_x), rows(grad_weight), NO_ROWS if gate is None else rows(grad_gate)
    run_ranges(norm_backward, positions, d, _number(weight, eps), *inputs, *outputs)
    return grad_weight.sum(0)


@torch.library.custom_op("hnet_lm::rms_norm_cpu_backward", mutates_args=())
def _rms_norm_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, weight and gate; without a gate the last is empty."""
    grad_x = torch.empty(x.shape, dtype=x.dtype)
    grad_gate = torch.empty((0,) if gate is None else gate.shape, dtype=x.dtype if gate is None else gate.dtype)
    return grad_x, normalize_backward(grad_y, x, weight, eps, gate, scale, grad_x, grad_gate), grad_gate


@_rms_norm_backward.register_fake
def _(
    grad_y: Tensor, x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return (
        x.new_empty(x.shape),
        weight.new_empty(weight.shape),
        x.new_empty(0) if gate is None else gate.new_empty(gate.shape),
    )


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, ctx.eps, gate, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, gate, output[1])


def _backward(ctx: Any, grad_y: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, gate, scale = ctx.saved_tensors
    if grad_y is None:
        return None, None, None, None, None
    grad_x, grad_weight, grad_gate = _rms_norm_backward(grad_y, x, weight, ctx.eps, gate, scale)
    return grad_x, grad_weight, None, None if gate is None else grad_gate, None


_rms_norm.register_autograd(_backward, setup_context=_setup_context)


def _rows(x: Tensor | None) -> tuple[Any, int, int]:
    return NO_ROWS if x is None else rows(x)


def _number(weight: Tensor, eps: float) -> Any:
    return type(ONE[weight.dtype])(eps)
