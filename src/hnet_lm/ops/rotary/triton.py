"""A few positions by one program, which has their sines once for all heads. Its gradient is the turn back."""

import math
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.kernels.launch import ceil_div, launch, unit_stride, why_not

MOST_HEADS = 16
"""Heads that one program goes over."""


def supports(
    x: Tensor, positions: Tensor, dim: int, base: float, frequencies: tuple[float, ...] | None, magnitude: float
) -> str | None:
    if frequencies is not None or magnitude != 1:
        return "it computes the frequencies itself, and so knows none that are scaled"
    return why_not(x)


def rotary(
    x: Tensor, positions: Tensor, dim: int, base: float, frequencies: tuple[float, ...] | None, magnitude: float
) -> Tensor:
    return x if dim == 0 else _rotary(x, positions, dim, base, False)


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _turn(
    x_ptr, positions_ptr, y_ptr, num_rows, num_heads, head_dim, row_stride, head_stride, log_base,
    DIM: tl.constexpr, BACK: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, HEADS: tl.constexpr,
    PAIRS: tl.constexpr, REST: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    pair = tl.arange(0, PAIRS)[None, :]
    inside = row < num_rows
    position = tl.load(positions_ptr + row, mask=inside, other=0)
    # A float32 angle of 8192 radians has three digits less than its frequency, which is therefore float64's.
    frequency = tl.exp(pair.to(tl.float64) * (-2.0 / DIM) * log_base).to(WIDE)
    angle = position.to(WIDE) * frequency
    cos, sin = tl.cos(angle), tl.sin(angle)
    if BACK:
        sin = -sin
    is_pair = inside & (pair < DIM // 2)
    other = DIM + tl.arange(0, REST)[None, :]
    is_other = inside & (other < head_dim)
    kind = y_ptr.dtype.element_ty
    for i in range(HEADS):
        head = tl.program_id(1) * HEADS + i
        if head < num_heads:
            from_x = x_ptr + row * row_stride + head * head_stride
            to_y = y_ptr + (row * num_heads + head) * head_dim
            first = tl.load(from_x + pair, mask=is_pair, other=0).to(WIDE)
            second = tl.load(from_x + pair + DIM // 2, mask=is_pair, other=0).to(WIDE)
            tl.store(to_y + pair, (first * cos - second * sin).to(kind), mask=is_pair)
            tl.store(to_y + pair + DIM // 2, (first * sin + second * cos).to(kind), mask=is_pair)
            rest = tl.load(from_x + other, mask=is_other, other=0)
            tl.store(to_y + other, rest, mask=is_other)


@torch.library.custom_op("hnet_lm::rotary_triton", mutates_args=())
def _rotary(x: Tensor, positions: Tensor, dim: int, base: float, back: bool) -> Tensor:
    x = unit_stride(x)
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    (t, h, p), rows, heads = x.shape, 16, min(x.shape[1], MOST_HEADS)
    options = {
        "DIM": dim,
        "BACK": back,
        "WIDE": tl.float64 if x.dtype == torch.float64 else tl.float32,
        "ROWS": rows,
        "HEADS": heads,
        "PAIRS": triton.next_power_of_2(dim // 2),
        "REST": triton.next_power_of_2(max(1, p - dim)),
    }
    grid = ceil_div(t, rows), ceil_div(h, max(heads, 1))
    launch(_turn, grid, x, positions.contiguous(), y, t, h, p, x.stride(0), x.stride(1), math.log(base), **options)
    return y


@_rotary.register_fake
def _(x: Tensor, positions: Tensor, dim: int, base: float, back: bool) -> Tensor:
    return x.new_empty(x.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, positions, ctx.dim, ctx.base, ctx.back = inputs
    ctx.save_for_backward(positions)


def _grads(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None, None]:
    (positions,) = ctx.saved_tensors
    return _rotary(grad, positions, ctx.dim, ctx.base, not ctx.back), None, None, None, None


_rotary.register_autograd(_grads, setup_context=_setup_context)
