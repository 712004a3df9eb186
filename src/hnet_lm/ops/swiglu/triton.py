"""One pass over a tile of both halves, which may be views of one wider tensor."""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.kernels.launch import ceil_div, launch, unit_stride, why_not

ROWS, COLUMNS = 16, 256


def supports(y: Tensor, gate: Tensor) -> str | None:
    return "y must be a matrix" if y.dim() != 2 else why_not(y)


def swiglu(y: Tensor, gate: Tensor) -> Tensor:
    return _swiglu(y, gate)


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _forward(
    y_ptr, gate_ptr, out_ptr, num_rows, num_columns, y_stride, gate_stride,
    WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < num_rows) & (column < num_columns)
    y = tl.load(y_ptr + row * y_stride + column, mask=inside, other=0).to(WIDE)
    gate = tl.load(gate_ptr + row * gate_stride + column, mask=inside, other=0).to(WIDE)
    out = gate / (1 + tl.exp(-gate)) * y
    tl.store(out_ptr + row * num_columns + column, out.to(out_ptr.dtype.element_ty), mask=inside)


@no_type_check
@triton.jit
def _backward(
    grad_ptr, y_ptr, gate_ptr, grad_y_ptr, grad_gate_ptr, num_rows, num_columns, grad_stride, y_stride, gate_stride,
    WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    inside = (row < num_rows) & (column < num_columns)
    grad = tl.load(grad_ptr + row * grad_stride + column, mask=inside, other=0).to(WIDE)
    y = tl.load(y_ptr + row * y_stride + column, mask=inside, other=0).to(WIDE)
    gate = tl.load(gate_ptr + row * gate_stride + column, mask=inside, other=0).to(WIDE)
    half = 1 / (1 + tl.exp(-gate))
    at = row * num_columns + column
    tl.store(grad_y_ptr + at, (grad * gate * half).to(grad_y_ptr.dtype.element_ty), mask=inside)
    slope = half * (1 + gate * (1 - half))
    tl.store(grad_gate_ptr + at, (grad * y * slope).to(grad_gate_ptr.dtype.element_ty), mask=inside)


def _options(x: Tensor) -> dict[str, Any]:
    return {"WIDE": tl.float64 if x.dtype == torch.float64 else tl.float32, "ROWS": ROWS, "COLUMNS": COLUMNS}


def _grid(x: Tensor) -> tuple[int, int]:
    return ceil_div(x.shape[0], ROWS), ceil_div(x.shape[1], COLUMNS)


@torch.library.custom_op("hnet_lm::swiglu_triton", mutates_args=())
def _swiglu(y: Tensor, gate: Tensor) -> Tensor:
    y, gate = unit_stride(y), unit_stride(gate)
    out = torch.empty(y.shape, dtype=y.dtype, device=y.device)
    launch(_forward, _grid(y), y, gate, out, *y.shape, y.stride(0), gate.stride(0), **_options(y))
    return out


@_swiglu.register_fake
def _(y: Tensor, gate: Tensor) -> Tensor:
    return y.new_empty(y.shape)


@torch.library.custom_op("hnet_lm::swiglu_triton_backward", mutates_args=())
def _swiglu_backward(grad: Tensor, y: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    grad, y, gate = unit_stride(grad), unit_stride(y), unit_stride(gate)
    grad_y, grad_gate = (torch.empty(y.shape, dtype=y.dtype, device=y.device) for _ in range(2))
    strides = grad.stride(0), y.stride(0), gate.stride(0)
    launch(_backward, _grid(y), grad, y, gate, grad_y, grad_gate, *y.shape, *strides, **_options(y))
    return grad_y, grad_gate


@_swiglu_backward.register_fake
def _(grad: Tensor, y: Tensor, gate: Tensor) -> tuple[Tensor, Tensor]:
    return y.new_empty(y.shape), gate.new_empty(gate.shape)


def _setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _grads(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
    return _swiglu_backward(grad, *ctx.saved_tensors)


_swiglu.register_autograd(_grads, setup_context=_setup_context)
