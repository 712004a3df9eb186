"""A tile of positions and channels by one program, which reads each input once per tap, from the cache.

Only inputs are kept for the backward pass. There the gradient to an input needs the sums of the w-1 positions after it,
which each program computes again.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.kernels.launch import ceil_div, launch, unit_stride, why_not
from hnet_lm.sequences import Sequences

MAX_TAPS = 16
ROWS, COLUMNS = 32, 64


def supports(x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None) -> str | None:
    return f"there are more than {MAX_TAPS} taps" if weight.shape[1] > MAX_TAPS else why_not(x)


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    wide = torch.promote_types(x.dtype, torch.float32)
    taps, bias = weight.T.to(wide), bias.to(wide)
    past = None if state is None else seqs.owned(state).to(wide)
    y = _conv(x, taps, bias, past, seqs.cu_seqlens, seqs.sequence_ids)
    if state is None or past is None:
        return y, None
    return y, seqs.replaced(state, _last(x, past, seqs.cu_seqlens))


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _input(x_ptr, past_ptr, row, back, start, sequence, column, inside, x_stride, num_columns,
           HAS_PAST: tl.constexpr, TAPS: tl.constexpr):  # fmt: skip
    """The inputs `back` positions before `row`: of the sequence, or what it carries; zeros before that."""
    wide = past_ptr.dtype.element_ty
    source = row - back
    x = tl.load(x_ptr + source * x_stride + column, mask=inside & (source >= start), other=0).to(wide)
    if HAS_PAST:
        before = sequence * (TAPS - 1) + TAPS - 1 + source - start
        x += tl.load(past_ptr + before * num_columns + column, mask=inside & (source < start), other=0)
    return x


@no_type_check
@triton.jit
def _sum(x_ptr, taps_ptr, bias, past_ptr, row, start, sequence, column, inside, in_row, x_stride, num_columns,
         HAS_PAST: tl.constexpr, TAPS: tl.constexpr):  # fmt: skip
    total = bias
    for back in tl.static_range(TAPS):
        tap = tl.load(taps_ptr + (TAPS - 1 - back) * num_columns + column, mask=in_row, other=0)
        total += tap * _input(
            x_ptr, past_ptr, row, back, start, sequence, column, inside, x_stride, num_columns, HAS_PAST, TAPS
        )
    return total


@no_type_check
@triton.jit
def _forward(
    x_ptr, taps_ptr, bias_ptr, past_ptr, cu_seqlens_ptr, ids_ptr, y_ptr, num_rows, num_columns, x_stride,
    HAS_PAST: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    in_row, inside = column < num_columns, (row < num_rows) & (column < num_columns)
    sequence = tl.load(ids_ptr + row, mask=row < num_rows, other=0)
    start = tl.load(cu_seqlens_ptr + sequence, mask=row < num_rows, other=0)
    bias = tl.load(bias_ptr + column, mask=in_row, other=0)
    total = _sum(
        x_ptr, taps_ptr, bias, past_ptr, row, start, sequence, column, inside, in_row, x_stride, num_columns,
        HAS_PAST, TAPS,
    )  # fmt: skip
    y = total / (1 + tl.exp(-total))
    tl.store(y_ptr + row * num_columns + column, y.to(y_ptr.dtype.element_ty), mask=inside)


@no_type_check
@triton.jit
def _backward(
    grad_ptr, x_ptr, taps_ptr, bias_ptr, past_ptr, cu_seqlens_ptr, ids_ptr, grad_x_ptr, grad_taps_ptr,
    num_rows, num_columns, grad_stride, x_stride, grad_x_stride,
    HAS_PAST: tl.constexpr, TAPS: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Row `part` of grad_taps, (parts, taps + 1, channels), gets the gradients to the taps and to the bias."""
    part = tl.program_id(0).to(tl.int64)
    row = part * ROWS + tl.arange(0, ROWS)[:, None]
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    in_row, exists = column < num_columns, row < num_rows
    sequence = tl.load(ids_ptr + row, mask=exists, other=0)
    start = tl.load(cu_seqlens_ptr + sequence, mask=exists, other=0)
    end = tl.load(cu_seqlens_ptr + sequence + 1, mask=exists, other=0)
    bias = tl.load(bias_ptr + column, mask=in_row, other=0)
    grad_x = tl.zeros([ROWS, COLUMNS], dtype=bias_ptr.dtype.element_ty)
    to_part = grad_taps_ptr + part * (TAPS + 1) * num_columns + column
    for ahead in tl.static_range(TAPS):
        later = row + ahead
        inside = exists & in_row & (later < end)
        total = _sum(
            x_ptr, taps_ptr, bias, past_ptr, later, start, sequence, column, inside, in_row, x_stride, num_columns,
            HAS_PAST, TAPS,
        )  # fmt: skip
        half = 1 / (1 + tl.exp(-total))
        grad = tl.load(grad_ptr + later * grad_stride + column, mask=inside, other=0).to(half.dtype)
        grad *= half * (1 + total * (1 - half))
        grad_x += grad * tl.load(taps_ptr + (TAPS - 1 - ahead) * num_columns + column, mask=in_row, other=0)
        if ahead == 0:
            tl.store(to_part + TAPS * num_columns, tl.sum(grad, 0)[None, :], mask=in_row)
            for back in tl.static_range(TAPS):
                seen = _input(
                    x_ptr, past_ptr, row, back, start, sequence, column, inside, x_stride, num_columns, HAS_PAST, TAPS
                )
                tl.store(to_part + (TAPS - 1 - back) * num_columns, tl.sum(grad * seen, 0)[None, :], mask=in_row)
    inside = exists & in_row
    tl.store(grad_x_ptr + row * grad_x_stride + column, grad_x.to(grad_x_ptr.dtype.element_ty), mask=inside)


@no_type_check
@triton.jit
def _backward_past(
    grad_ptr, x_ptr, taps_ptr, bias_ptr, past_ptr, cu_seqlens_ptr, grad_past_ptr, num_columns, grad_stride, x_stride,
    TAPS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Entry m of what a sequence carries meets tap m - i in the sum of its position i."""
    sequence = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)[None, :]
    in_row = column < num_columns
    start = tl.load(cu_seqlens_ptr + sequence)
    end = tl.load(cu_seqlens_ptr + sequence + 1)
    bias = tl.load(bias_ptr + column, mask=in_row, other=0)
    for entry in tl.static_range(TAPS - 1):
        total_grad = tl.zeros([1, COLUMNS], dtype=bias_ptr.dtype.element_ty)
        for i in tl.static_range(entry + 1):
            row = start + i + column * 0  # a scalar would not combine with a mask in the interpreter
            inside = in_row & (row < end)
            total = _sum(
                x_ptr, taps_ptr, bias, past_ptr, row, start, sequence, column, inside, in_row, x_stride, num_columns,
                True, TAPS,
            )  # fmt: skip
            half = 1 / (1 + tl.exp(-total))
            grad = tl.load(grad_ptr + row * grad_stride + column, mask=inside, other=0).to(half.dtype)
            tap = tl.load(taps_ptr + (entry - i) * num_columns + column, mask=in_row, other=0)
            total_grad += grad * half * (1 + total * (1 - half)) * tap
        at = (sequence * (TAPS - 1) + entry) * num_columns + column
        tl.store(grad_past_ptr + at, total_grad, mask=in_row)


def _grid(x: Tensor) -> tuple[int, int]:
    return ceil_div(x.shape[0], ROWS), ceil_div(x.shape[1], COLUMNS)


def convolve(x: Tensor, taps: Tensor, bias: Tensor, past: Tensor | None, cu_seqlens: Tensor, ids: Tensor) -> Tensor:
    x, taps, bias = unit_stride(x), taps.contiguous(), bias.contiguous()
    carried = bias if past is None else past.contiguous()
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    options = {"HAS_PAST": past is not None, "TAPS": len(taps), "ROWS": ROWS, "COLUMNS": COLUMNS}
    launch(_forward, _grid(x), x, taps, bias, carried, cu_seqlens, ids, y, *x.shape, x.stride(0), **options)
    return y


_conv = torch.library.custom_op("hnet_lm::causal_conv_triton", mutates_args=())(convolve)


@_conv.register_fake
def _(x: Tensor, taps: Tensor, bias: Tensor, past: Tensor | None, cu_seqlens: Tensor, ids: Tensor) -> Tensor:
    return x.new_empty(x.shape)


def convolve_backward(
    grad: Tensor,
    x: Tensor,
    taps: Tensor,
    bias: Tensor,
    past: Tensor | None,
    cu_seqlens: Tensor,
    ids: Tensor,
    grad_x: Tensor,
) -> tuple[Tensor, Tensor]:
    """Gradients to the taps and, in one more row, to the bias, and to what is carried; else that is empty. The gradient
    to x is written to `grad_x`."""
    x, taps, bias, grad = unit_stride(x), taps.contiguous(), bias.contiguous(), unit_stride(grad)
    carried = bias if past is None else past.contiguous()
    parts = taps.new_empty(ceil_div(len(x), ROWS), len(taps) + 1, x.shape[1])
    options = {"HAS_PAST": past is not None, "TAPS": len(taps), "ROWS": ROWS, "COLUMNS": COLUMNS}
    launch(
        _backward, _grid(x), grad, x, taps, bias, carried, cu_seqlens, ids, grad_x, parts, *x.shape, grad.stride(0),
        x.stride(0), grad_x.stride(0), **options,
    )  # fmt: skip
    total = parts.sum(0)
    if past is None:
        return total, taps.new_empty(0)
    grad_past = torch.empty(past.shape, dtype=past.dtype, device=past.device)
    grid = len(past), ceil_div(x.shape[1], COLUMNS)
    launch(
        _backward_past, grid, grad, x, taps, bias, carried, cu_seqlens, grad_past, x.shape[1], grad.stride(0),
        x.stride(0), TAPS=len(taps), COLUMNS=COLUMNS,
    )  # fmt: skip
    return total, grad_past


@torch.library.custom_op("hnet_lm::causal_conv_triton_backward", mutates_args=())
def _conv_backward(
    grad: Tensor, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor | None, cu_seqlens: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, to the taps and, in one more row, to the bias, and to what is carried; else that is empty."""
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    return grad_x, *convolve_backward(grad, x, taps, bias, past, cu_seqlens, ids, grad_x)


@_conv_backward.register_fake
def _(
    grad: Tensor, x: Tensor, taps: Tensor, bias: Tensor, past: Tensor | None, cu_seqlens: Tensor, ids: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    grad_past = taps.new_empty(0) if past is None else past.new_empty(past.shape)
    return x.new_empty(x.shape), taps.new_empty(taps.shape[0] + 1, taps.shape[1]), grad_past


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _grads(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grad_x, grad_taps, grad_past = _conv_backward(grad, *ctx.saved_tensors)
    return grad_x, grad_taps[:-1], grad_taps[-1], None if ctx.saved_tensors[3] is None else grad_past, None, None


_conv.register_autograd(_grads, setup_context=_setup_context)


def _last(x: Tensor, past: Tensor, cu_seqlens: Tensor) -> Tensor:
    """The last inputs of each sequence, (b, w-1, d): of what it carried and its new ones. Two gathers."""
    ends = cu_seqlens[1:, None] + torch.arange(-past.shape[1], 0, device=x.device)
    starts = cu_seqlens[:-1, None]
    kept = (ends - starts + past.shape[1]).clamp(max=max(past.shape[1] - 1, 0))
    carried = torch.take_along_dim(past, kept[..., None], 1)
    if not len(x):
        return carried
    return torch.where((ends >= starts)[..., None], x[ends.clamp(min=0)].to(past.dtype), carried)
