"""The recurrence itself, compiled, with the state of one head in the innermost cache.

Nothing is laid out in blocks and nothing as large as (block, block) is ever written: an input is read once, an output
written once, where it lies and in the type it has; the state and all that is computed is in at least float32. All is
made of one step of a probed scan of outer products, in either direction of time,

    S = decay_t S + rows_t lanes_t^T        out_t = S^T probe_t

since with inputs u = dt x, and with the gradient to the state, which runs backwards,

    y = scan(B, u; C)                        grad C = scan(u, B; grad y)
    grad u = scan backwards(C, grad y; B)    grad B = scan backwards(grad y, C; u)

In both scans on the right the state lies transposed, so the gradient to the decay, which multiplies the state with its
gradient, comes with them.
"""

from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.native import array, in_rows, ranges, rows, run
from hnet_lm.ops.ssd._loops import Loops, loops
from hnet_lm.sequences import Sequences

PIECE = 2048
"""Positions of a sequence at a time."""


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    D = D.clone()  # FSDP takes the memory of a weight away
    if state is None:
        initial = dt.new_zeros(seqs.num_sequences, B.shape[1], *x.shape[1:])
    else:
        initial = seqs.owned(state).to(dt.dtype)
    y, final = _SSD.apply(
        x.flatten(1), dt, A, B, C, D, initial, *seqs.memo("pieces of the scan", lambda: _pieces(seqs))
    )
    return y.view(x.shape), None if state is None else seqs.replaced(state, final)


def _pieces(seqs: Sequences) -> tuple[Tensor, Tensor]:
    """Where each piece of a sequence begins and the last one ends; and whose each is. An empty sequence has one too."""
    bounds, owner = [0], []
    for sequence, length in enumerate(seqs.host_lengths):
        start = bounds[-1]
        for end in range(PIECE, max(length, 1) + PIECE, PIECE):
            bounds.append(start + min(end, length))
            owner.append(sequence)
    return torch.tensor(bounds), torch.tensor(owner, dtype=torch.int64)


class _SSD(torch.autograd.Function):
    """x and y have the heads side by side."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        dt: Tensor,
        A: Tensor,
        B: Tensor,
        C: Tensor,
        D: Tensor,
        initial: Tensor,
        bounds: Tensor,
        owner: Tensor,
    ) -> tuple[Tensor, Tensor]:
        x, B, C = map(in_rows, (x, B, C))
        y, final = _empty_like(x), initial.clone(memory_format=torch.contiguous_format)
        starts = initial.new_empty(len(owner) - len(initial), *initial.shape[1:])
        inputs = rows(x), array(dt), array(A), rows(B), rows(C), *map(array, (D, bounds, owner))
        run(_loops(initial).forward, _heads(x, initial, 3), *inputs, rows(y), array(starts), array(final))
        ctx.save_for_backward(x, dt, A, B, C, D, initial, bounds, owner, starts)
        return y, final

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, dt, A, B, C, D, initial, bounds, owner, starts = ctx.saved_tensors
        grad_y, grad_x, grad_dt, grad_D = in_rows(grad_y), _empty_like(x), _empty_like(dt), D.new_zeros(len(D))
        grad_initial, again = (grad_final.clone(memory_format=torch.contiguous_format) for _ in range(2))
        inputs = rows(grad_y), rows(x), array(dt), array(A), rows(B), rows(C)
        pieces = array(bounds), array(owner)
        outputs = rows(grad_x), *map(array, (grad_dt, grad_D, grad_initial))
        run(_loops(initial).to_inputs, _heads(x, initial, 3), *inputs, array(D), *pieces, *outputs)

        heads = _heads(x, initial, 8)
        grad_B, grad_C = (dt.new_zeros(len(heads), *B.shape) for _ in range(2))
        grad_log_decay = _empty_like(dt)
        outputs = map(array, (grad_B, grad_C, grad_log_decay, again))
        run(_loops(initial).to_projections, heads, *inputs, *pieces, array(initial), array(starts), *outputs)

        grad_dt.addcmul_(grad_log_decay, A)
        grad_A = (grad_log_decay * dt).sum(0)
        return grad_x, grad_dt, grad_A, grad_B.sum(0), grad_C.sum(0), grad_D, grad_initial, None, None


def _loops(state: Tensor) -> Loops:
    _, num_states, _, head_dim = state.shape
    return loops(num_states, head_dim)


def _heads(x: Tensor, state: Tensor, work: int) -> list[tuple[int, int]]:
    """Ranges of heads, for so many multiplications a position and entry of the state."""
    _, num_states, num_heads, head_dim = state.shape
    return ranges(num_heads, len(x) * num_states * head_dim * work)


def _empty_like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype)
