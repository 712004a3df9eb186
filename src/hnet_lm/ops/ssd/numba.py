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


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    D = D.clone()  # FSDP takes the memory of a weight away
    if state is None:
        initial = dt.new_zeros(seqs.num_sequences, B.shape[1], *x.shape[1:])
    else:
        initial = seqs.owned(state).to(dt.dtype)
    y, final = _SSD.apply(x.flatten(1), dt, A, B, C, D, initial, seqs.cu_seqlens)
    return y.view(x.shape), None if state is None else seqs.replaced(state, final)


class _SSD(torch.autograd.Function):
    """x and y have the heads side by side."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        x, B, C = map(in_rows, (x, B, C))
        ctx.save_for_backward(x, dt, A, B, C, D, initial, bounds)
        y, final = _empty_like(x), _empty_like(initial)
        inputs = rows(x), array(dt), array(A), rows(B), rows(C), *map(array, (D, bounds, initial))
        run(_loops(initial).forward, _heads(x, initial, 3), *inputs, rows(y), array(final))
        return y, final

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, dt, A, B, C, D, initial, bounds = ctx.saved_tensors
        grad_y = in_rows(grad_y)
        grad_x, grad_dt, grad_D, grad_initial = map(_empty_like, (x, dt, D, initial))
        inputs = rows(grad_y), array(grad_final), rows(x), array(dt), array(A), rows(B), rows(C)
        outputs = rows(grad_x), *map(array, (grad_dt, grad_D, grad_initial))
        run(_loops(initial).to_inputs, _heads(x, initial, 3), *inputs, array(D), array(bounds), *outputs)

        heads = _heads(x, initial, 8)
        grad_B, grad_C = (dt.new_zeros(len(heads), *B.shape) for _ in range(2))
        grad_log_decay = _empty_like(dt)
        outputs = map(array, (grad_B, grad_C, grad_log_decay))
        run(_loops(initial).to_projections, heads, *inputs, array(bounds), array(initial), *outputs)

        grad_dt.addcmul_(grad_log_decay, A)
        grad_A = (grad_log_decay * dt).sum(0)
        return grad_x, grad_dt, grad_A, grad_B.sum(0), grad_C.sum(0), grad_D, grad_initial, None


def _loops(state: Tensor) -> Loops:
    _, num_states, _, head_dim = state.shape
    return loops(num_states, head_dim)


def _heads(x: Tensor, state: Tensor, work: int) -> list[tuple[int, int]]:
    """Ranges of heads, for so many multiplications a position and entry of the state."""
    _, num_states, num_heads, head_dim = state.shape
    return ranges(num_heads, len(x) * num_states * head_dim * work)


def _empty_like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype)
