"""Gate, mean and scale of a position by one program, in registers; a few rows at a time where they are narrow.

In the backward pass each program goes over a range of rows and adds up its part of the gradient to the weight, so that
the sum has a fixed order.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.kernels.launch import ceil_div, launch, tile, unit_stride, why_not

MAX_WIDTH = 1 << 14
MOST_PARTS = 1024
"""Programs of the backward pass, at most: each writes a part of the gradient to the weight."""


def supports(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> str | None:
    if x.shape[1] > MAX_WIDTH:
        return f"rows are wider than {MAX_WIDTH}"
    return why_not(x)


def rms_norm(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> Tensor:
    y, _ = _rms_norm(x, weight.to(torch.promote_types(x.dtype, torch.float32)), eps, gate, dtype)
    return y


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _forward(
    x_ptr, weight_ptr, gate_ptr, y_ptr, scale_ptr, num_rows, num_columns, x_stride, gate_stride, eps: tl.constexpr,
    HAS_GATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    wide = weight_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)
    inside = (row[:, None] < num_rows) & (column[None, :] < num_columns)
    v = tl.load(x_ptr + row[:, None] * x_stride + column[None, :], mask=inside, other=0).to(wide)
    if HAS_GATE:
        gate = tl.load(gate_ptr + row[:, None] * gate_stride + column[None, :], mask=inside, other=0).to(wide)
        v *= gate / (1 + tl.exp(-gate))
    scale = 1 / tl.sqrt(tl.sum(v * v, 1) / num_columns + eps)
    weight = tl.load(weight_ptr + column, mask=column < num_columns, other=0)
    y = v * scale[:, None] * weight[None, :]
    tl.store(y_ptr + row[:, None] * num_columns + column[None, :], y.to(y_ptr.dtype.element_ty), mask=inside)
    tl.store(scale_ptr + row, scale, mask=row < num_rows)


@no_type_check
@triton.jit
def _backward(
    grad_ptr, x_ptr, weight_ptr, gate_ptr, scale_ptr, grad_x_ptr, grad_weight_ptr, grad_gate_ptr,
    num_rows, num_columns, grad_stride, x_stride, gate_stride, grad_x_stride, grad_gate_stride, num_tiles,
    HAS_GATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    wide = weight_ptr.dtype.element_ty
    part = tl.program_id(0).to(tl.int64)
    column = tl.arange(0, COLUMNS)
    weight = tl.load(weight_ptr + column, mask=column < num_columns, other=0)
    grad_weight = tl.zeros([COLUMNS], dtype=wide)
    for i in range(num_tiles):
        row = (part * num_tiles + i) * ROWS + tl.arange(0, ROWS)
        inside = (row[:, None] < num_rows) & (column[None, :] < num_columns)
        x = tl.load(x_ptr + row[:, None] * x_stride + column[None, :], mask=inside, other=0).to(wide)
        grad = tl.load(grad_ptr + row[:, None] * grad_stride + column[None, :], mask=inside, other=0).to(wide)
        scale = tl.load(scale_ptr + row, mask=row < num_rows, other=0)[:, None]
        factor = tl.full([ROWS, COLUMNS], 1, dtype=wide)
        if HAS_GATE:
            gate = tl.load(gate_ptr + row[:, None] * gate_stride + column[None, :], mask=inside, other=0).to(wide)
            half = 1 / (1 + tl.exp(-gate))
            factor = gate * half
        normed = x * factor * scale
        grad_weight += tl.sum(grad * normed, 0)
        grad *= weight[None, :]
        along = tl.sum(grad * normed, 1) / num_columns
        grad = (grad - along[:, None] * normed) * scale
        at = row[:, None] * grad_x_stride + column[None, :]
        tl.store(grad_x_ptr + at, (grad * factor).to(grad_x_ptr.dtype.element_ty), mask=inside)
        if HAS_GATE:
            slope = half * (1 + gate * (1 - half))
            at = row[:, None] * grad_gate_stride + column[None, :]
            tl.store(grad_gate_ptr + at, (grad * x * slope).to(grad_gate_ptr.dtype.element_ty), mask=inside)
    tl.store(grad_weight_ptr + part * num_columns + column, grad_weight, mask=column < num_columns)


def normalize(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The norm, and the factor of each position, 1 / sqrt(mean + eps)."""
    x, other, weight = unit_stride(x), unit_stride(x if gate is None else gate), weight.contiguous()
    y, scale = torch.empty(x.shape, dtype=dtype, device=x.device), weight.new_empty(len(x))
    options = tile(x.shape[1])
    launch(
        _forward, (ceil_div(len(x), options["ROWS"]),), x, weight, other, y, scale, *x.shape, x.stride(0),
        other.stride(0), eps, HAS_GATE=gate is not None, **options,
    )  # fmt: skip
    return y, scale


_rms_norm = torch.library.custom_op("hnet_lm::rms_norm_triton", mutates_args=())(normalize)


@_rms_norm.register_fake
def _(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape, dtype=dtype), weight.new_empty(x.shape[0])


def normalize_backward(
    grad_y: Tensor,
    x: Tensor,
    weight: Tensor,
    gate: Tensor | None,
    scale: Tensor,
    grad_x: Tensor,
    grad_gate: Tensor | None,
) -> Tensor:
    """The gradient to the weight; those to x and the gate are written to `grad_x` and `grad_gate`."""
    x, other, weight, grad_y = (
        unit_stride(x),
        unit_stride(x if gate is None else gate),
        weight.contiguous(),
        unit_stride(grad_y),
    )
    to_gate = grad_x if grad_gate is None else grad_gate
    options = tile(x.shape[1])
    num_tiles = ceil_div(len(x), options["ROWS"])
    per_part = max(1, ceil_div(num_tiles, MOST_PARTS))
    num_parts = ceil_div(num_tiles, per_part)
    grad_weight = weight.new_empty(num_parts, x.shape[1])
    launch(
        _backward, (num_parts,), grad_y, x, weight, other, scale, grad_x, grad_weight, to_gate, *x.shape,
        grad_y.stride(0), x.stride(0), other.stride(0), grad_x.stride(0), to_gate.stride(0), per_part,
        HAS_GATE=gate is not None, **options,
    )  # fmt: skip
    return grad_weight.sum(0)


@torch.library.custom_op("hnet_lm::rms_norm_triton_backward", mutates_args=())
def _rms_norm_backward(
    grad_y: Tensor, x: Tensor, weight: Tensor, gate: Tensor | None, scale: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, weight and gate; without a gate the last is empty."""
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    grad_gate = None if gate is None else torch.empty(gate.shape, dtype=gate.dtype, device=x.device)
    grad_weight = normalize_backward(grad_y, x, weight, gate, scale, grad_x, grad_gate)
    return grad_x, grad_weight, x.new_empty(0) if grad_gate is None else grad_gate


@_rms_norm_backward.register_fake
def _(grad_y: Tensor, x: Tensor, weight: Tensor, gate: Tensor | None, scale: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    grad_gate = x.new_empty(0) if gate is None else gate.new_empty(gate.shape)
    return x.new_empty(x.shape), weight.new_empty(weight.shape), grad_gate


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    x, weight, _, gate, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(x, weight, gate, output[1])


def _grads(ctx: Any, grad_y: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    x, weight, gate, scale = ctx.saved_tensors
    if grad_y is None:
        return None, None, None, None, None
    grad_x, grad_weight, grad_gate = _rms_norm_backward(grad_y, x, weight, gate, scale)
    return grad_x, grad_weight, None, None if gate is None else grad_gate, None


_rms_norm.register_autograd(_grads, setup_context=_setup_context)
