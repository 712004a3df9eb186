"""The compiled loops of the parts, on the columns that each of them reads and writes.

Kept for the backward pass is what the parts would keep, so the numbers are theirs bit for bit. What goes is the joining
of gradients, of the three columns of the projection and of the three of the convolution, and most of the calls.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from torch.utils.flop_counter import register_flop_formula

from hnet_lm.ops.causal_conv import cpu as conv
from hnet_lm.ops.mamba2._columns import flops, projected_columns, scanned_columns
from hnet_lm.ops.rms_norm import cpu as norm
from hnet_lm.ops.ssd import cpu as ssd
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
    if zxbcdt.device.type != "cpu":
        return f"it runs on the CPU, not on {zxbcdt.device.type}"
    z, xBC, _ = projected_columns(zxbcdt, len(conv_weight), len(D))
    x, B, _ = scanned_columns(xBC, len(norm_weight))
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
    vectors = (each.to(wide) for each in (conv_weight.T, conv_bias[None], dt_bias, A_log, D, norm_weight))
    return _mamba2(zxbcdt, *vectors, eps, seqs.cu_seqlens, *ssd.pieces_of(seqs), dtype)[0]


@torch.library.custom_op("hnet_lm::mamba2_cpu", mutates_args=())
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
    bounds: Tensor,
    owner: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The result; the convolved x, B and C, dt, the output of the scan, its states at the start of pieces, and the
    factor of each position's norm."""
    z, xBC, raw_dt = projected_columns(zxbcdt, taps.shape[1], len(D))
    past, initial = _nothing_carried(taps, D, norm_weight, cu_seqlens)
    convolved, _ = conv.convolve(xBC, taps, conv_bias, past, cu_seqlens)
    x, B, C = scanned_columns(convolved, len(norm_weight))
    dt = softplus(raw_dt + dt_bias)
    y, _, starts = ssd.scan(x, dt, -A_log.exp(), B, C, D, initial, bounds, owner)
    normed, scale = norm.normalize(y, norm_weight, eps, z, dtype)
    return normed, convolved, dt, y, starts, scale


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
    bounds: Tensor,
    owner: Tensor,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    t, d = zxbcdt.shape[0], norm_weight.shape[0]
    _, initial = _nothing_carried(taps, D, norm_weight, cu_seqlens)
    starts = initial.new_empty(owner.shape[0] - initial.shape[0], *initial.shape[1:])
    convolved, y = zxbcdt.new_empty(t, taps.shape[1]), zxbcdt.new_empty(t, d)
    return zxbcdt.new_empty(t, d, dtype=dtype), convolved, D.new_empty(t, len(D)), y, starts, D.new_empty(t)


@torch.library.custom_op("hnet_lm::mamba2_cpu_backward", mutates_args=())
def _mamba2_backward(
    grad: Tensor,
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    cu_seqlens: Tensor,
    bounds: Tensor,
    owner: Tensor,
    convolved: Tensor,
    dt: Tensor,
    y: Tensor,
    starts: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to zxbcdt and the six weights."""
    z, xBC, raw_dt = projected_columns(zxbcdt, taps.shape[1], len(D))
    grad_zxbcdt, grad_convolved = (torch.empty(each.shape, dtype=zxbcdt.dtype) for each in (zxbcdt, convolved))
    grad_z, grad_xBC, grad_raw_dt = projected_columns(grad_zxbcdt, taps.shape[1], len(D))
    grad_x, grad_B, grad_C = scanned_columns(grad_convolved, len(norm_weight))
    past, initial = _nothing_carried(taps, D, norm_weight, cu_seqlens)

    grad_y = torch.empty(y.shape, dtype=y.dtype)
    grad_norm = norm.normalize_backward(grad, y, norm_weight, eps, z, scale, grad_y, grad_z)
    A, (x, B, C) = -A_log.exp(), scanned_columns(convolved, len(norm_weight))
    grad_dt, grad_A, to_B, to_C, grad_D, _ = ssd.scan_backward(
        grad_y, initial, x, dt, A, B, C, D, initial, bounds, owner, starts, grad_x
    )
    grad_B.copy_(to_B)
    grad_C.copy_(to_C)
    grad_dt = torch.ops.aten.softplus_backward(grad_dt, raw_dt + dt_bias, 1, 20)  # softplus' own beta and threshold
    grad_raw_dt.copy_(grad_dt)
    grad_taps, grad_bias, _ = conv.convolve_backward(
        grad_convolved, past, xBC, taps, conv_bias, past, cu_seqlens, grad_xBC
    )
    return grad_zxbcdt, grad_taps, grad_bias, grad_dt.sum(0), grad_A * A, grad_D, grad_norm


@_mamba2_backward.register_fake
def _(
    grad: Tensor,
    zxbcdt: Tensor,
    taps: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    A_log: Tensor,
    D: Tensor,
    norm_weight: Tensor,
    eps: float,
    cu_seqlens: Tensor,
    bounds: Tensor,
    owner: Tensor,
    convolved: Tensor,
    dt: Tensor,
    y: Tensor,
    starts: Tensor,
    scale: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    zxbcdt, taps, conv_bias, dt_bias, A_log, D, norm_weight = (
        each.new_empty(each.shape) for each in (zxbcdt, taps, conv_bias, dt_bias, A_log, D, norm_weight)
    )
    return zxbcdt, taps, conv_bias, dt_bias, A_log, D, norm_weight


def _nothing_carried(taps: Tensor, D: Tensor, norm_weight: Tensor, cu_seqlens: Tensor) -> tuple[Tensor, Tensor]:
    """The inputs before each sequence, (b w-1, d_conv), and its first state, (b, n, h, p)."""
    b, (width, d_conv), d, h = cu_seqlens.shape[0] - 1, taps.shape, norm_weight.shape[0], D.shape[0]
    return taps.new_zeros(b * (width - 1), d_conv), D.new_zeros(b, (d_conv - d) // 2, h, d // h)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.eps, cu_seqlens, bounds, owner, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*output[1:])
    ctx.save_for_backward(*tensors, cu_seqlens, bounds, owner, *output[1:])


def _backward(ctx: Any, grad: Tensor | None, *_: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return (None,) * 12
    saved = ctx.saved_tensors  # once: a checkpoint computes them again each time
    tensors, rest = saved[:7], saved[7:]
    return *_mamba2_backward(grad, *tensors, ctx.eps, *rest), *(None,) * 5


_mamba2.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.hnet_lm.mamba2_cpu)
def _flops(zxbcdt: Any, taps: Any, *args: Any, out_shape: Any, **kwargs: Any) -> int:
    return flops(zxbcdt, taps, out_shape[0][1])


@register_flop_formula(torch.ops.hnet_lm.mamba2_cpu_backward)
def _flops_backward(grad: Any, zxbcdt: Any, taps: Any, *args: Any, **kwargs: Any) -> int:
    return 2 * flops(zxbcdt, taps, grad[1])
