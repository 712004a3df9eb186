"""The cosine of neighbours by one program for a few rows; each row of q is read for the position behind it.

Kept for the backward pass are three numbers per position: the lengths of both vectors and their cosine.
"""

from typing import Any, no_type_check

import torch
import triton
import triton.language as tl
from torch import Tensor

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.ops.kernels.launch import ceil_div, launch, tile, unit_stride, why_not
from hnet_lm.sequences import Sequences

MAX_WIDTH = 1 << 13


def supports(q: Tensor, k: Tensor, seqs: Sequences, last_q: Tensor | None, has_seen: Tensor | None) -> str | None:
    return f"rows are wider than {MAX_WIDTH}" if q.shape[1] > MAX_WIDTH else why_not(q)


def boundary_prob(
    q: Tensor, k: Tensor, seqs: Sequences, last_q: Tensor | None, has_seen: Tensor | None
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if last_q is None or has_seen is None:
        return _boundary_prob(q, k, seqs.cu_seqlens, seqs.sequence_ids, None, None)[0], None, None
    past, seen = seqs.owned(last_q), seqs.owned(has_seen)
    p = _boundary_prob(q, k, seqs.cu_seqlens, seqs.sequence_ids, past, seen)[0]
    if not len(q):
        return p, seqs.replaced(last_q, past), seqs.replaced(has_seen, seen)
    is_empty = seqs.lengths == 0
    newest = q[(seqs.cu_seqlens[1:] - 1).clamp(min=0)].to(past.dtype)
    last_q = seqs.replaced(last_q, torch.where(is_empty[:, None], past, newest))
    return p, last_q, seqs.replaced(has_seen, seen | ~is_empty)


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _forward(
    q_ptr, k_ptr, cu_seqlens_ptr, ids_ptr, past_ptr, has_seen_ptr, p_ptr, lengths_ptr, num_rows, num_columns,
    q_stride, k_stride, eps, HAS_STATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    wide = p_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)[None, :]
    exists, in_row = row < num_rows, column < num_columns
    sequence = tl.load(ids_ptr + row, mask=exists, other=0)
    is_first = tl.load(cu_seqlens_ptr + sequence, mask=exists, other=0) == row
    k = tl.load(k_ptr + row[:, None] * k_stride + column, mask=exists[:, None] & in_row, other=0).to(wide)
    behind = exists & (is_first == 0)
    q = tl.load(q_ptr + (row - 1)[:, None] * q_stride + column, mask=behind[:, None] & in_row, other=0).to(wide)
    known = behind
    if HAS_STATE:
        carried = exists & is_first & (tl.load(has_seen_ptr + sequence, mask=exists, other=0) != 0)
        at = past_ptr + sequence[:, None] * num_columns + column
        q += tl.load(at, mask=carried[:, None] & in_row, other=0).to(wide)
        known = known | carried
    q_length = tl.maximum(tl.sqrt(tl.sum(q * q, 1)), eps)
    k_length = tl.maximum(tl.sqrt(tl.sum(k * k, 1)), eps)
    cosine = tl.sum(q * k, 1) / (q_length * k_length)
    p = tl.minimum(tl.maximum((1 - cosine) / 2, 0), 1)
    tl.store(p_ptr + row, tl.where(known, p, 1), mask=exists)
    # Of a position without a predecessor the length is 0: it gives no gradient.
    tl.store(lengths_ptr + row * 3, tl.where(known, q_length, 0), mask=exists)
    tl.store(lengths_ptr + row * 3 + 1, k_length, mask=exists)
    tl.store(lengths_ptr + row * 3 + 2, cosine, mask=exists)


@no_type_check
@triton.jit
def _backward(
    grad_ptr, q_ptr, k_ptr, cu_seqlens_ptr, ids_ptr, past_ptr, lengths_ptr, grad_q_ptr, grad_k_ptr, grad_past_ptr,
    num_rows, num_columns, q_stride, k_stride, eps,
    HAS_STATE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Of row r: the gradient to k_r through p_r, to q_r through p_{r+1}, and to the carried q of its sequence."""
    wide = grad_ptr.dtype.element_ty
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, COLUMNS)[None, :]
    exists, in_row = row < num_rows, column < num_columns
    inside = exists[:, None] & in_row
    sequence = tl.load(ids_ptr + row, mask=exists, other=0)
    is_first = tl.load(cu_seqlens_ptr + sequence, mask=exists, other=0) == row
    is_last = tl.load(cu_seqlens_ptr + sequence + 1, mask=exists, other=0) == row + 1

    k = tl.load(k_ptr + row[:, None] * k_stride + column, mask=inside, other=0).to(wide)
    q = tl.load(q_ptr + row[:, None] * q_stride + column, mask=inside, other=0).to(wide)
    behind = exists & (is_first == 0)
    before = tl.load(q_ptr + (row - 1)[:, None] * q_stride + column, mask=behind[:, None] & in_row, other=0).to(wide)
    q_length = tl.load(lengths_ptr + row * 3, mask=exists, other=0)
    if HAS_STATE:
        carried = (exists & is_first & (q_length > 0))[:, None] & in_row
        before += tl.load(past_ptr + sequence[:, None] * num_columns + column, mask=carried, other=0).to(wide)
    k_length = tl.load(lengths_ptr + row * 3 + 1, mask=exists, other=1)
    cosine = tl.load(lengths_ptr + row * 3 + 2, mask=exists, other=0)
    # p = (1 - cos) / 2 within [0, 1]; d cos / dk = (q / |q| - cos k / |k|) / |k|, without its second part where |k| is
    # the least length.
    moves = (q_length > 0) & (cosine >= -1) & (cosine <= 1)
    slope = tl.where(moves, -tl.load(grad_ptr + row, mask=exists, other=0) / 2, 0)[:, None]
    q_length = tl.where(q_length > 0, q_length, 1)[:, None]
    k_length, cosine = k_length[:, None], cosine[:, None]
    turn = tl.where(k_length > eps, cosine / k_length, 0)
    grad_k = slope * (before / q_length - turn * k) / k_length
    tl.store(grad_k_ptr + row[:, None] * num_columns + column, grad_k.to(grad_k_ptr.dtype.element_ty), mask=inside)
    if HAS_STATE:
        turn = tl.where(q_length > eps, cosine / q_length, 0)
        grad_past = slope * (k / k_length - turn * before) / q_length
        at = grad_past_ptr + sequence[:, None] * num_columns + column
        tl.store(at, grad_past.to(grad_past_ptr.dtype.element_ty), mask=carried)

    ahead = exists & (is_last == 0)
    after = tl.load(k_ptr + (row + 1)[:, None] * k_stride + column, mask=ahead[:, None] & in_row, other=0).to(wide)
    q_length = tl.load(lengths_ptr + row * 3 + 3, mask=ahead, other=1)
    k_length = tl.load(lengths_ptr + row * 3 + 4, mask=ahead, other=1)
    cosine = tl.load(lengths_ptr + row * 3 + 5, mask=ahead, other=0)
    moves = ahead & (cosine >= -1) & (cosine <= 1)
    slope = tl.where(moves, -tl.load(grad_ptr + row + 1, mask=ahead, other=0) / 2, 0)[:, None]
    q_length, k_length, cosine = q_length[:, None], k_length[:, None], cosine[:, None]
    turn = tl.where(q_length > eps, cosine / q_length, 0)
    grad_q = slope * (after / k_length - turn * q) / q_length
    tl.store(grad_q_ptr + row[:, None] * num_columns + column, grad_q.to(grad_q_ptr.dtype.element_ty), mask=inside)


@torch.library.custom_op("hnet_lm::boundary_prob_triton", mutates_args=())
def _boundary_prob(
    q: Tensor, k: Tensor, cu_seqlens: Tensor, ids: Tensor, past: Tensor | None, has_seen: Tensor | None
) -> tuple[Tensor, Tensor]:
    """p, and of each position the lengths of both vectors and their cosine."""
    q, k, other = unit_stride(q), unit_stride(k), q if past is None else past.contiguous()
    seen = ids if has_seen is None else has_seen.to(torch.int8)
    wide = torch.promote_types(q.dtype, torch.float32)
    p, lengths = q.new_empty(len(q), dtype=wide), q.new_empty(len(q), 3, dtype=wide)
    options = tile(q.shape[1], most_rows=8)
    launch(
        _forward, (ceil_div(len(q), options["ROWS"]),), q, k, cu_seqlens, ids, other, seen, p, lengths, *q.shape,
        q.stride(0), k.stride(0), EPS, HAS_STATE=past is not None, **options,
    )  # fmt: skip
    return p, lengths


@_boundary_prob.register_fake
def _(
    q: Tensor, k: Tensor, cu_seqlens: Tensor, ids: Tensor, past: Tensor | None, has_seen: Tensor | None
) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(q.dtype, torch.float32)
    return q.new_empty(q.shape[0], dtype=wide), q.new_empty(q.shape[0], 3, dtype=wide)


@torch.library.custom_op("hnet_lm::boundary_prob_triton_backward", mutates_args=())
def _boundary_prob_backward(
    grad: Tensor, q: Tensor, k: Tensor, cu_seqlens: Tensor, ids: Tensor, past: Tensor | None, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to q, k and the carried q; without those the last is empty."""
    q, k, other, grad = unit_stride(q), unit_stride(k), q if past is None else past.contiguous(), grad.contiguous()
    grad_q, grad_k = (torch.empty(q.shape, dtype=q.dtype, device=q.device) for _ in range(2))
    grad_past = q.new_empty(0) if past is None else torch.zeros(past.shape, dtype=past.dtype, device=q.device)
    options = tile(q.shape[1], most_rows=8)
    launch(
        _backward, (ceil_div(len(q), options["ROWS"]),), grad, q, k, cu_seqlens, ids, other, lengths, grad_q, grad_k,
        grad_past, *q.shape, q.stride(0), k.stride(0), EPS, HAS_STATE=past is not None, **options,
    )  # fmt: skip
    return grad_q, grad_k, grad_past


@_boundary_prob_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, cu_seqlens: Tensor, ids: Tensor, past: Tensor | None, lengths: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), q.new_empty(0) if past is None else past.new_empty(past.shape)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, cu_seqlens, ids, past, _ = inputs
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(output[1])
    ctx.save_for_backward(q, k, cu_seqlens, ids, past, output[1])


def _grads(ctx: Any, grad: Tensor | None, _: Any) -> tuple[Tensor | None, ...]:
    if grad is None:
        return None, None, None, None, None, None
    q, k, cu_seqlens, ids, past, lengths = ctx.saved_tensors
    grad_q, grad_k, grad_past = _boundary_prob_backward(grad, q, k, cu_seqlens, ids, past, lengths)
    return grad_q, grad_k, None, None, None if past is None else grad_past, None


_boundary_prob.register_autograd(_grads, setup_context=_setup_context)
