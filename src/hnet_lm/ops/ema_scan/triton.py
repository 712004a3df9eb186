"""Parallel over blocks, all in float32: what each block adds, the recurrence between blocks, and then all positions.

Within a block z = L (p x) + prefix * before, where L[i, j] is the product of 1 - p over j+1 .. i and prefix that over
all up to i. Products are multiplied out, never taken out of logarithms: with p = 1 they are exactly 0. The gradient
runs the same three kernels backwards, with L transposed.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.kernels.blocks import block_table
from hnet_lm.ops.kernels.launch import ceil_div, launch, unit_stride, why_not
from hnet_lm.ops.kernels.pass_states import pass_states
from hnet_lm.sequences import Sequences

BLOCK_SIZE = 32
COLUMNS = 64


def supports(x: Tensor, p: Tensor, seqs: Sequences, state: Tensor | None) -> str | None:
    return why_not(x)


def ema_scan(x: Tensor, p: Tensor, seqs: Sequences, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    z, final, _ = _ema(x, p, None if state is None else seqs.owned(state), *block_table(seqs, BLOCK_SIZE))
    return z, None if state is None else seqs.replaced(state, final)


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _decays(p_ptr, first, num_rows, SIZE: tl.constexpr):
    """1 - p of each position, and of the one after it; 1 where there is none."""
    index = tl.arange(0, SIZE)
    own = 1 - tl.load(p_ptr + first + index, mask=index < num_rows, other=0)
    after = 1 - tl.load(p_ptr + first + index + 1, mask=index + 1 < num_rows, other=0)
    return own, after


@no_type_check
@triton.jit
def _updates(
    x_ptr, p_ptr, first_row_ptr, num_rows_ptr, update_ptr, decay_ptr, num_columns, stride,
    REVERSE: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """What a block adds to the state behind it; in reverse, to the gradient before it."""
    block = tl.program_id(0).to(tl.int64)
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block)
    if num_rows == 0:
        return
    index = tl.arange(0, SIZE)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    own, after = _decays(p_ptr, first, num_rows, SIZE)
    prefix = tl.cumprod(own, 0)
    weight = prefix
    if not REVERSE:
        p = tl.load(p_ptr + first + index, mask=index < num_rows, other=0)
        weight = p * tl.cumprod(after, 0, reverse=True)
    inside = (index < num_rows)[:, None] & (column < num_columns)[None, :]
    x = tl.load(x_ptr + (first + index)[:, None] * stride + column[None, :], mask=inside, other=0)
    update = tl.sum(x * weight[:, None], 0)
    tl.store(update_ptr + block * num_columns + column, update, mask=column < num_columns)
    if tl.program_id(1) == 0:
        tl.store(decay_ptr + block, tl.sum(tl.where(index == SIZE - 1, prefix, 0), 0))


@no_type_check
@triton.jit
def _positions(
    x_ptr, p_ptr, before_ptr, first_row_ptr, num_rows_ptr, z_ptr, grad_ptr, after_ptr, grad_x_ptr, grad_p_ptr,
    num_positions, num_columns, x_stride, grad_stride, REVERSE: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """z of every position of a block; in reverse the gradients to x and, a part per tile of columns, to p."""
    block = tl.program_id(0).to(tl.int64)
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block)
    if num_rows == 0:
        return
    index = tl.arange(0, SIZE)
    column = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    in_row, exists = column < num_columns, index < num_rows
    inside = exists[:, None] & in_row[None, :]
    row = first + index
    own, after = _decays(p_ptr, first, num_rows, SIZE)
    later = index[:, None] > index[None, :]
    left = tl.cumprod(tl.where(later, own[:, None], 1), 0)
    left = tl.where(index[:, None] >= index[None, :], left, 0)
    p = tl.load(p_ptr + row, mask=exists, other=0)
    x = tl.load(x_ptr + row[:, None] * x_stride + column[None, :], mask=inside, other=0)
    before = tl.load(before_ptr + block * num_columns + column, mask=in_row, other=0)
    at = row[:, None] * num_columns + column[None, :]
    if REVERSE:
        grad = tl.load(grad_ptr + row[:, None] * grad_stride + column[None, :], mask=inside, other=0)
        carried = tl.load(after_ptr + block * num_columns + column, mask=in_row, other=0)
        to_end = tl.cumprod(after, 0, reverse=True)
        grad = tl.dot(tl.trans(left), grad, input_precision="ieee", out_dtype=grad.dtype)
        grad += to_end[:, None] * carried[None, :]
        tl.store(grad_x_ptr + at, p[:, None] * grad, mask=inside)
        earlier = inside & (index > 0)[:, None]
        z = tl.load(z_ptr + at - num_columns, mask=earlier, other=0)
        z += tl.where((index == 0)[:, None], before[None, :], 0)
        to_p = tl.sum(grad * (x - z), 1)
        tl.store(grad_p_ptr + tl.program_id(1).to(tl.int64) * num_positions + row, to_p, mask=exists)
    else:
        z = tl.dot(left, p[:, None] * x, input_precision="ieee", out_dtype=x.dtype)
        z += tl.cumprod(own, 0)[:, None] * before[None, :]
        tl.store(z_ptr + at, z, mask=inside)


def _before(
    x: Tensor,
    p: Tensor,
    initial: Tensor | None,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    reverse: bool,
) -> tuple[Tensor, Tensor]:
    """The state before each block and behind each sequence; in reverse, the gradient behind a block and before it."""
    num_blocks, num_columns = len(first_row), x.shape[1]
    update, decay = x.new_empty(num_blocks, 1, num_columns), x.new_empty(num_blocks, 1)
    grid = num_blocks, ceil_div(num_columns, COLUMNS)
    launch(
        _updates, grid, x, p, first_row, num_rows, update, decay, num_columns, x.stride(0),
        REVERSE=reverse, SIZE=BLOCK_SIZE, COLUMNS=COLUMNS,
    )  # fmt: skip
    initial = None if initial is None else initial.unsqueeze(1)
    before, final, _ = pass_states(update, decay, initial, first_block, reverse=reverse)
    return before, x.new_empty(0) if final is None else final.squeeze(1)


@torch.library.custom_op("hnet_lm::ema_scan_triton", mutates_args=())
def _ema(
    x: Tensor, p: Tensor, initial: Tensor | None, first_row: Tensor, num_rows: Tensor, first_block: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """z, the last z of every sequence (empty without an initial one), and the z before each block."""
    x, p, z = unit_stride(x), p.contiguous(), torch.empty(x.shape, dtype=x.dtype, device=x.device)
    before, final = _before(x, p, initial, first_row, num_rows, first_block, False)
    grid = len(first_row), ceil_div(x.shape[1], COLUMNS)
    launch(
        _positions, grid, x, p, before, first_row, num_rows, z, x, x, x, x, *x.shape, x.stride(0), 0,
        REVERSE=False, SIZE=BLOCK_SIZE, COLUMNS=COLUMNS,
    )  # fmt: skip
    return z, final, before


@_ema.register_fake
def _(
    x: Tensor, p: Tensor, initial: Tensor | None, first_row: Tensor, num_rows: Tensor, first_block: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    final = x.new_empty(0) if initial is None else initial.new_empty(initial.shape)
    return x.new_empty(x.shape), final, x.new_empty(first_row.shape[0], 1, x.shape[1])


@torch.library.custom_op("hnet_lm::ema_scan_triton_backward", mutates_args=())
def _ema_backward(
    grad_z: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    p: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    z: Tensor,
    before: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to x, p and the initial state; without one to the final state the last is empty."""
    x, p, grad_z = unit_stride(x), p.contiguous(), unit_stride(grad_z)
    after, grad_initial = _before(grad_z, p, grad_final, first_row, num_rows, first_block, True)
    grid = len(first_row), ceil_div(x.shape[1], COLUMNS)
    grad_x = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    grad_p = x.new_empty(grid[1], len(x))
    launch(
        _positions, grid, x, p, before, first_row, num_rows, z, grad_z, after, grad_x, grad_p, *x.shape, x.stride(0),
        grad_z.stride(0), REVERSE=True, SIZE=BLOCK_SIZE, COLUMNS=COLUMNS,
    )  # fmt: skip
    return grad_x, grad_p.sum(0), grad_initial


@_ema_backward.register_fake
def _(
    grad_z: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    p: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    z: Tensor,
    before: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    grad_initial = x.new_empty(0) if grad_final is None else grad_final.new_empty(grad_final.shape)
    return x.new_empty(x.shape), p.new_empty(p.shape), grad_initial


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    x, p, initial, *table = inputs
    z, _, before = output
    ctx.set_materialize_grads(False)
    ctx.state_shape = None if initial is None else initial.shape
    ctx.mark_non_differentiable(before)
    ctx.save_for_backward(x, p, *table, z, before)


def _grads(ctx: Any, grad_z: Tensor | None, grad_final: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    x = ctx.saved_tensors[0]
    if grad_z is None:
        grad_z = torch.zeros_like(x)
    if ctx.state_shape is not None and grad_final is None:
        grad_final = x.new_zeros(ctx.state_shape)
    grad_x, grad_p, grad_initial = _ema_backward(grad_z, grad_final, *ctx.saved_tensors)
    return grad_x, grad_p, None if grad_final is None else grad_initial, None, None, None


_ema.register_autograd(_grads, setup_context=_setup_context)
