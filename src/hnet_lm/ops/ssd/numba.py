"""The recurrence itself, compiled, with the state of one head in the innermost cache.

Nothing is laid out in blocks and nothing as large as (block, block) is ever written: an input is read once, an output
written once. All is made of one step of a probed scan of outer products, in either direction of time,

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

from hnet_lm.ops.native import array, ranges, run
from hnet_lm.ops.ssd._loops import ROWS, Loops, loops
from hnet_lm.sequences import Sequences


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    x, B, C = (part.to(dt.dtype) for part in (x, B, C))
    D = D.clone()  # FSDP takes the memory of a weight away
    if state is None:
        initial = dt.new_zeros(seqs.num_sequences, B.shape[1], *x.shape[1:])
    else:
        initial = seqs.owned(state).to(dt.dtype)
    y, final = _SSD.apply(x, dt, A, B, C, D, initial, seqs.cu_seqlens)
    return y, None if state is None else seqs.replaced(state, final)


class _SSD(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, dt, A, B, C, D, initial, bounds)
        y, final = _empty_like(x), _empty_like(initial)
        inputs = (x, dt, A, B, C, D, bounds, initial)
        run(_loops(B, x).forward, _heads(x, 3 * B.shape[1]), *map(array, (*inputs, y, final)))
        return y, final

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, dt, A, B, C, D, initial, bounds = ctx.saved_tensors
        grad_x, grad_dt, grad_D, grad_initial = map(_empty_like, (x, dt, D, initial))
        inputs = (grad_y, grad_final, x, dt, A, B, C, D, bounds)
        outputs = (grad_x, grad_dt, grad_D, grad_initial)
        run(_loops(B, x).to_inputs, _heads(x, 3 * B.shape[1]), *map(array, (*inputs, *outputs)))

        heads = _heads(x, 8 * B.shape[1])
        grad_B, grad_C = (x.new_zeros(len(heads), *B.shape) for _ in range(2))
        grad_log_decay = _empty_like(dt)
        inputs = (grad_y, grad_final, x, dt, A, B, C, bounds, initial)
        run(_loops(x, B).to_projections, heads, *map(array, (*inputs, grad_B, grad_C, grad_log_decay)))

        grad_dt.addcmul_(grad_log_decay, A)
        grad_A = (grad_log_decay * dt).sum(0)
        return grad_x, grad_dt, grad_A, grad_B.sum(0), grad_C.sum(0), grad_D, grad_initial, None


def _heads(x: Tensor, work: int) -> list[tuple[int, int]]:
    """Ranges of heads, for so many multiplications an entry of x."""
    return ranges(x.shape[1], len(x) * x.shape[2] * work)


def _loops(rows: Tensor, lanes: Tensor) -> Loops:
    num_rows = rows.shape[-1]
    return loops(num_rows + -num_rows % ROWS, lanes.shape[-1])


def _empty_like(x: Tensor) -> Tensor:
    return torch.empty_like(x, memory_format=torch.contiguous_format)
