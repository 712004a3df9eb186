"""The blocked scan: what each block adds to the state, the recurrence from block to block, and then all positions.

Nothing of size (block, block) per head is ever written, B and C are read where they are, by all heads, and states are
float32. Kept for the backward pass are the inputs, the state before each block, and the decays of tiles. No lengths
are copied to the host: a table on the device says which rows a block has.
"""

from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hnet_lm.ops.kernels.blocks import BlockTable, block_table
from hnet_lm.ops.kernels.launch import ceil_div, launch, unit_stride, why_not
from hnet_lm.ops.kernels.pass_states import pass_states
from hnet_lm.ops.ssd._kernels import (
    TILE,
    block_states,
    decay_gradients,
    outputs,
    projection_gradients,
    score_gradients,
    step,
)
from hnet_lm.sequences import Sequences

BLOCK_SIZE, SMALL_BLOCK_SIZE = 256, 64
"""Positions of a block: of a state that is kept. Small ones where there are few positions to be parallel over."""
FEW_POSITIONS = 4096
MOST_STATES, MOST_HEAD_DIM = 256, 128
HEADS = 8
"""Heads of one program of the gradient to the decays."""


def supports(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> str | None:
    if dt.dtype != torch.promote_types(x.dtype, torch.float32):
        return "it knows dt in the type of x or in float32 where that is narrower"
    if not 0 < B.shape[1] <= MOST_STATES or not 0 < x.shape[2] <= MOST_HEAD_DIM:
        return f"a head must have 1 to {MOST_STATES} states and be 1 to {MOST_HEAD_DIM} wide"
    return why_not(x)


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if state is not None and seqs.max_length <= 1 and not torch.is_grad_enabled():
        y, final = _step(x.flatten(1), dt, A, B, C, D, seqs.owned(state).to(dt.dtype), seqs.cu_seqlens)
        return y.view(x.shape), seqs.replaced(state, final)
    size = size_of_blocks(len(x))
    # The heads of a state are side by side in the kernels: (b, h, n, p).
    initial = None if state is None else seqs.owned(state).to(dt.dtype).transpose(1, 2)
    y, final, *_ = _ssd(x.flatten(1), dt, A, B, C, D, initial, *block_table(seqs, size), size)
    return y.view(x.shape), None if state is None else seqs.replaced(state, final.transpose(1, 2).contiguous())


def size_of_blocks(num_positions: int) -> int:
    return SMALL_BLOCK_SIZE if num_positions < FEW_POSITIONS else BLOCK_SIZE


class ScanGradients(NamedTuple):
    """Where the backward pass writes: matrices whose rows may be part of wider ones."""

    x: Tensor
    dt: Tensor
    B: Tensor
    C: Tensor


@torch.library.custom_op("hnet_lm::ssd_triton_step", mutates_args=())
def _step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor]:
    """y and the states after at most one position of each sequence, without gradients."""
    x, B, C, dt, initial = unit_stride(x), unit_stride(B), unit_stride(C), dt.contiguous(), initial.contiguous()
    y, final = torch.empty(x.shape, dtype=x.dtype, device=x.device), torch.empty_like(initial)
    _, n, h, p = initial.shape
    sizes = _sizes(x, h, n, TILE)
    launch(
        step, (len(initial), h), x, dt, A.contiguous(), B, C, D.contiguous(), cu_seqlens, initial, y, final, h, p, n,
        x.stride(0), B.stride(0), C.stride(0), N=sizes["N"], P=sizes["P"],
    )  # fmt: skip
    return y, final


@_step.register_fake
def _(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, cu_seqlens: Tensor
) -> tuple[Tensor, Tensor]:
    return x.new_empty(x.shape), torch.empty_like(initial)


def _sizes(x: Tensor, h: int, n: int, block_size: int) -> dict[str, Any]:
    """The numbers fixed at compilation."""
    is_wide = x.dtype == torch.float32 and torch.version.hip is None
    return {
        "TILE": TILE,
        "TILES": block_size // TILE,
        "N": max(16, triton.next_power_of_2(n)),
        "P": max(16, triton.next_power_of_2(x.shape[1] // h)),
        "PRECISION": "tf32x3" if is_wide else "ieee",
    }


def scan(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial: Tensor | None,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    block_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """y, the final states (empty without initial ones), the states before each block, and the log decay of each tile
    and the decay of each block. The heads of x and y are side by side."""
    x, B, C, dt, A, D = unit_stride(x), unit_stride(B), unit_stride(C), dt.contiguous(), A.contiguous(), D.contiguous()
    h, n, k = dt.shape[1], B.shape[1], len(first_row)
    sizes = _sizes(x, h, n, block_size)
    p = x.shape[1] // h
    states, decay = dt.new_empty(k, h, n * p), dt.new_empty(k, h)
    totals = dt.new_empty(k, sizes["TILES"], h)
    launch(
        block_states, (k, h), B, x, dt, A, first_row, num_rows, states, totals, decay, h, p, n, B.stride(0),
        x.stride(0), REVERSE=False, **sizes,
    )  # fmt: skip
    carried = None if initial is None else initial.flatten(2)
    before, final, _ = pass_states(states, decay, carried, first_block)
    y = scan_outputs(x, dt, A, B, C, D, first_row, num_rows, before, totals)
    final = dt.new_empty(0) if final is None or initial is None else final.view(initial.shape)
    return y, final, before, totals, decay


def scan_outputs(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    before: Tensor,
    totals: Tensor,
) -> Tensor:
    """y, from the states before blocks."""
    x, B, C, dt, A, D = unit_stride(x), unit_stride(B), unit_stride(C), dt.contiguous(), A.contiguous(), D.contiguous()
    h, n, num_tiles = dt.shape[1], B.shape[1], totals.shape[1]
    y = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    launch(
        outputs, (len(first_row) * num_tiles, h), C, B, x, dt, A, D, totals, before, x, first_row, num_rows, y, dt, dt,
        h, x.shape[1] // h, n, C.stride(0), B.stride(0), x.stride(0), x.stride(0), y.stride(0), REVERSE=False,
        **_sizes(x, h, n, num_tiles * TILE),
    )  # fmt: skip
    return y


_ssd = torch.library.custom_op("hnet_lm::ssd_triton", mutates_args=())(scan)


@_ssd.register_fake
def _(
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial: Tensor | None,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    block_size: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    h, k = dt.shape[1], first_row.shape[0]
    before = dt.new_empty(k, h, B.shape[1] * x.shape[1] // h)
    final = dt.new_empty(0) if initial is None else initial.new_empty(initial.shape)
    return x.new_empty(x.shape), final, before, dt.new_empty(k, block_size // TILE, h), dt.new_empty(k, h)


def scan_backward(
    grad_y: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    before: Tensor,
    totals: Tensor,
    decay: Tensor,
    grads: ScanGradients,
    raw_dt: tuple[Tensor, Tensor] | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to A, as a row, D and the initial states; without one to the final states the last is empty. Those to
    x, dt, B and C are written to `grads`.

    Where dt is softplus(raw_dt + bias), given as `raw_dt` and bias, and A is -exp(A_log), they are those to raw_dt and
    A_log instead, and that to the bias is one more row.
    """
    x, B, C, dt, A, D = unit_stride(x), unit_stride(B), unit_stride(C), dt.contiguous(), A.contiguous(), D.contiguous()
    grad_y = unit_stride(grad_y)
    (t, h), n, k, num_tiles = dt.shape, B.shape[1], len(first_row), totals.shape[1]
    sizes = _sizes(x, h, n, num_tiles * TILE)
    p = x.shape[1] // h
    table = BlockTable(first_row, num_rows, first_block)
    dims, strides = (h, p, n), (grad_y.stride(0), x.stride(0))

    added = dt.new_empty(k, h, n * p)
    launch(
        block_states, (k, h), C, grad_y, dt, A, first_row, num_rows, added, totals, decay, *dims, C.stride(0),
        grad_y.stride(0), REVERSE=True, **sizes,
    )  # fmt: skip
    carried = None if grad_final is None else grad_final.flatten(2)
    behind, grad_carried, through = pass_states(added, decay, carried, table.first_block, before, reverse=True)
    assert through is not None

    direct, grad_D = dt.new_empty(t, h), dt.new_empty(k * num_tiles, h)
    launch(
        outputs, (k * num_tiles, h), B, C, grad_y, dt, A, D, totals, behind, x, first_row, num_rows, grads.x,
        direct, grad_D, *dims, B.stride(0), C.stride(0), *strides, grads.x.stride(0), REVERSE=True, **sizes,
    )  # fmt: skip
    grad_scores = x.new_empty(k, num_tiles * TILE, num_tiles * TILE)
    from_tile, to_later = dt.new_empty(num_tiles, t, h), dt.new_empty(num_tiles, t, h)
    launch(
        score_gradients, (k * num_tiles**2,), C, B, grad_y, x, dt, A, totals, first_row, num_rows, grad_scores,
        from_tile, to_later, t, *dims, C.stride(0), B.stride(0), *strides, **sizes,
    )  # fmt: skip
    sums = []
    for rows, own, other, state, grad, reverse in (
        (grad_y, C, B, before, grads.C, False),
        (x, B, C, behind, grads.B, True),
    ):
        sums.append(dt.new_empty(t, h))
        launch(
            projection_gradients, (k * num_tiles,), rows, own, other, state, dt, A, totals, grad_scores, first_row,
            num_rows, grad, sums[-1], *dims, rows.stride(0), own.stride(0), other.stride(0), grad.stride(0),
            REVERSE=reverse, **sizes,
        )  # fmt: skip
    raw, bias = (dt, A) if raw_dt is None else raw_dt
    grad_A = dt.new_empty(k, 1 if raw_dt is None else 2, h)
    launch(
        decay_gradients, (k, ceil_div(h, HEADS)), from_tile, to_later, *sums, through, dt, A, first_row, num_rows,
        direct, raw, bias, grads.dt, grad_A, t, h, through.shape[2], raw.stride(0), grads.dt.stride(0),
        IS_RAW=raw_dt is not None, TILE=TILE, TILES=num_tiles, HEADS=HEADS,
    )  # fmt: skip
    grad_initial = (
        dt.new_empty(0) if grad_carried is None or grad_final is None else grad_carried.view(grad_final.shape)
    )
    return grad_A.sum(0), grad_D.sum(0), grad_initial


@torch.library.custom_op("hnet_lm::ssd_triton_backward", mutates_args=())
def _ssd_backward(
    grad_y: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    before: Tensor,
    totals: Tensor,
    decay: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to x, dt, A, B, C, D and the initial states; without one to the final states the last is empty."""
    grads = ScanGradients(*(each.new_empty(each.shape) for each in (x, dt, B, C)))
    grad_A, grad_D, grad_initial = scan_backward(
        grad_y, grad_final, x, dt, A, B, C, D, first_row, num_rows, first_block, before, totals, decay, grads
    )
    return grads.x, grads.dt, grad_A[0], grads.B, grads.C, grad_D, grad_initial


@_ssd_backward.register_fake
def _(
    grad_y: Tensor,
    grad_final: Tensor | None,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    before: Tensor,
    totals: Tensor,
    decay: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    grad_initial = dt.new_empty(0) if grad_final is None else grad_final.new_empty(grad_final.shape)
    x, dt, A, B, C, D = (each.new_empty(each.shape) for each in (x, dt, A, B, C, D))
    return x, dt, A, B, C, D, grad_initial


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *given, initial, first_row, num_rows, first_block, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.state_shape = None if initial is None else initial.shape
    ctx.mark_non_differentiable(*output[2:])
    ctx.save_for_backward(*given, first_row, num_rows, first_block, *output[2:])


def _grads(ctx: Any, grad_y: Tensor | None, grad_final: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad_y is None:
        grad_y = torch.zeros_like(ctx.saved_tensors[0])
    if ctx.state_shape is not None and grad_final is None:
        grad_final = ctx.saved_tensors[1].new_zeros(ctx.state_shape)
    *grads, grad_initial = _ssd_backward(grad_y, grad_final, *ctx.saved_tensors)
    return *grads, None if grad_final is None else grad_initial, None, None, None, None


_ssd.register_autograd(_grads, setup_context=_setup_context)


@register_flop_formula(torch.ops.hnet_lm.ssd_triton)
def _flops(x_shape: Any, dt_shape: Any, A_shape: Any, B_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 6 * x_shape[0] * x_shape[1] * B_shape[1]  # decay, outer product, and the product with C


@register_flop_formula(torch.ops.hnet_lm.ssd_triton_backward)
def _flops_backward(
    grad_y: Any, grad_final: Any, x_shape: Any, dt_shape: Any, A_shape: Any, B_shape: Any, *args: Any, **kwargs: Any
) -> int:
    return 2 * _flops(x_shape, dt_shape, A_shape, B_shape)
