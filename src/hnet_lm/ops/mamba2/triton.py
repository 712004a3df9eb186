"""The kernels of the parts, on the columns that each of them reads and writes.

Kept for the backward pass are the projection, dt and what the scan keeps, the states before blocks. The convolution and
the output of the scan are computed again there: one launch each, and no pass from block to block.
"""

from collections.abc import Sequence
from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hnet_lm.ops.causal_conv import triton as conv
from hnet_lm.ops.kernels.blocks import block_table
from hnet_lm.ops.kernels.launch import ceil_div, launch, tile, unit_stride
from hnet_lm.ops.rms_norm import triton as norm
from hnet_lm.ops.ssd import triton as ssd
from hnet_lm.ops.ssd._kernels import TILE
from hnet_lm.sequences import Sequences


def supports(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    seqs: Sequences,
    dtype: torch.dtype,
) -> str | None:
    z, xBC, _ = _projected_columns(zxbcdt, len(conv_weight), len(D))
    x, B, _ = _scanned_columns(xBC, len(norm_weight))
    dt = D.to(torch.promote_types(zxbcdt.dtype, torch.float32))
    return (
        conv.supports(xBC, conv_weight, conv_bias, seqs, None)
        or ssd.supports(x.unflatten(1, (len(D), -1)), dt, dt, B, B, dt, seqs, None)
        or norm.supports(x, norm_weight, eps, z, dtype)
    )


def mamba2(
    zxbcdt: Tensor,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    seqs: Sequences,
    dtype: torch.dtype,
) -> Tensor:
    wide = torch.promote_types(zxbcdt.dtype, torch.float32)
    taps = conv_weight.T.to(wide).contiguous()  # once, not in the backward pass again
    weights = (each.to(wide) for each in (conv_bias, dt_bias, A_log, D, norm_weight))
    size = ssd.size_of_blocks(len(zxbcdt))
    table = block_table(seqs, size)
    return _mamba2(zxbcdt, taps, *weights, eps, seqs.cu_seqlens, seqs.sequence_ids, *table, size, dtype)[0]


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _dynamics(
    raw_dt_ptr, bias_ptr, A_log_ptr, dt_ptr, A_ptr, num_rows, num_heads, raw_dt_stride,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """softplus(raw_dt + bias), as torch has it, and -exp(A_log)."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)[:, None]
    head = tl.arange(0, COLUMNS)[None, :]
    inside = (row < num_rows) & (head < num_heads)
    bias = tl.load(bias_ptr + head, mask=head < num_heads, other=0)
    raw_dt = tl.load(raw_dt_ptr + row * raw_dt_stride + head, mask=inside, other=0).to(bias.dtype) + bias
    below = tl.exp(-tl.abs(raw_dt))
    sum_with_one = 1 + below
    is_lost = sum_with_one == 1  # then log(1 + below) is below; else the rounding of the sum is divided out
    log = tl.log(sum_with_one) * (below / tl.where(is_lost, 1, sum_with_one - 1))
    dt = tl.maximum(raw_dt, 0) + tl.where(is_lost, below, log)
    tl.store(dt_ptr + row * num_heads + head, tl.where(raw_dt > 20, raw_dt, dt), mask=inside)
    A_log = tl.load(A_log_ptr + head, mask=head < num_heads, other=0)
    tl.store(A_ptr + head, -tl.exp(A_log), mask=(head < num_heads) & (head * 0 + tl.program_id(0) == 0))


@torch.library.custom_op("hnet_lm::mamba2_triton", mutates_args=())
def _mamba2(
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    cu_seqlens: Tensor,
    ids: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    block_size: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The result; dt and A; the states before blocks, the log decay of tiles and the decay of blocks; and the factor of
    each position's norm."""
    zxbcdt = unit_stride(zxbcdt)
    z, xBC, raw_dt = _projected_columns(zxbcdt, taps.shape[1], len(D))
    dt, A = D.new_empty(len(zxbcdt), len(D)), torch.empty_like(A_log)
    options = tile(len(D))
    launch(
        _dynamics, (ceil_div(len(dt), options["ROWS"]),), raw_dt, dt_bias.contiguous(), A_log.contiguous(), dt, A,
        *dt.shape, raw_dt.stride(0), **options,
    )  # fmt: skip
    x, B, C = _scanned_columns(conv.convolve(xBC, taps, conv_bias, None, cu_seqlens, ids), len(norm_weight))
    y, _, before, totals, decay = ssd.scan(x, dt, A, B, C, D, None, first_row, num_rows, first_block, block_size)
    normed, scale = norm.normalize(y, norm_weight, eps, z, dtype)
    return normed, dt, A, before, totals, decay, scale


@_mamba2.register_fake
def _(
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    cu_seqlens: Tensor,
    ids: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    block_size: int,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    (t, d, h), k = (zxbcdt.shape[0], norm_weight.shape[0], D.shape[0]), first_row.shape[0]
    before = D.new_empty(k, h, (taps.shape[1] - d) // 2 * (d // h))
    totals, decay = D.new_empty(k, block_size // TILE, h), D.new_empty(k, h)
    return zxbcdt.new_empty(t, d, dtype=dtype), D.new_empty(t, h), D.new_empty(h), before, totals, decay, D.new_empty(t)


@torch.library.custom_op("hnet_lm::mamba2_triton_backward", mutates_args=())
def _mamba2_backward(
    grad: Tensor,
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    cu_seqlens: Tensor,
    ids: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    dt: Tensor,
    A: Tensor,
    before: Tensor,
    totals: Tensor,
    decay: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to zxbcdt; to the taps and, in one more row, to the bias of the convolution; to A_log and, in one more
    row, to that of dt; to D; and to the weight of the norm."""
    zxbcdt, d = unit_stride(zxbcdt), len(norm_weight)
    z, xBC, raw_dt = _projected_columns(zxbcdt, taps.shape[1], len(D))
    convolved = conv.convolve(xBC, taps, conv_bias, None, cu_seqlens, ids)
    x, B, C = _scanned_columns(convolved, d)
    y = ssd.scan_outputs(x, dt, A, B, C, D, first_row, num_rows, before, totals)

    grad_zxbcdt, grad_convolved = (x.new_empty(each.shape) for each in (zxbcdt, convolved))
    grad_z, grad_xBC, grad_raw_dt = _projected_columns(grad_zxbcdt, taps.shape[1], len(D))
    grad_x, grad_B, grad_C = _scanned_columns(grad_convolved, d)
    grad_y = y.new_empty(y.shape)
    grad_norm = norm.normalize_backward(grad, y, norm_weight, z, scale, grad_y, grad_z)
    grad_dynamics, grad_D, _ = ssd.scan_backward(
        *(grad_y, None, x, dt, A, B, C, D, first_row, num_rows, first_block, before, totals, decay),
        ssd.ScanGradients(grad_x, grad_raw_dt, grad_B, grad_C),
        (raw_dt, dt_bias.contiguous()),
    )
    grad_taps, _ = conv.convolve_backward(grad_convolved, xBC, taps, conv_bias, None, cu_seqlens, ids, grad_xBC)
    return grad_zxbcdt, grad_taps, grad_dynamics, grad_D, grad_norm


@_mamba2_backward.register_fake
def _(
    grad: Tensor,
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    cu_seqlens: Tensor,
    ids: Tensor,
    first_row: Tensor,
    num_rows: Tensor,
    first_block: Tensor,
    dt: Tensor,
    A: Tensor,
    before: Tensor,
    totals: Tensor,
    decay: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    (width, d_conv), h = taps.shape, D.shape[0]
    grad_weights = taps.new_empty(width + 1, d_conv), D.new_empty(2, h), D.new_empty(h), D.new_empty(norm_weight.shape)
    return zxbcdt.new_empty(zxbcdt.shape), *grad_weights


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    zxbcdt, taps, conv_bias, dt_bias, _, D, norm_weight, _, *sequences, _, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(zxbcdt, taps, conv_bias, dt_bias, D, norm_weight, *sequences, *output[1:])


def _grads(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 15
    grad_zxbcdt, grad_taps, grad_dynamics, grad_D, grad_norm = _mamba2_backward(grad, *ctx.saved_tensors)
    grad_A_log, grad_dt_bias = grad_dynamics
    weights = grad_taps[:-1], grad_taps[-1], grad_dt_bias, grad_A_log, grad_D, grad_norm
    return grad_zxbcdt, *weights, *(None,) * 8


_mamba2.register_autograd(_grads, setup_context=_setup_context)


@register_flop_formula(torch.ops.hnet_lm.mamba2_triton)
def _flops(zxbcdt: Any, taps: Any, *args: Any, out_shape: Any, **kwargs: Any) -> int:
    return _flops_of_parts(zxbcdt, taps, out_shape[0][1])


@register_flop_formula(torch.ops.hnet_lm.mamba2_triton_backward)
def _flops_backward(grad: Any, zxbcdt: Any, taps: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * _flops_of_parts(zxbcdt, taps, grad[1])


def _flops_of_parts(zxbcdt: Sequence[int], taps: Sequence[int], d: int) -> int:
    """Of a forward pass of these shapes, as the convolution and the scan count theirs."""
    (num_positions, _), (width, d_conv) = zxbcdt, taps
    return 2 * num_positions * width * d_conv + 6 * num_positions * d * (d_conv - d) // 2


def _projected_columns(zxbcdt: Tensor, d_conv: int, num_heads: int) -> tuple[Tensor, ...]:
    """z, (x, B, C) and dt."""
    return zxbcdt.split([zxbcdt.shape[1] - d_conv - num_heads, d_conv, num_heads], dim=1)


def _scanned_columns(xBC: Tensor, d: int) -> tuple[Tensor, ...]:
    """x, B and C."""
    d_state = (xBC.shape[1] - d) // 2
    return xBC.split([d, d_state, d_state], dim=1)
