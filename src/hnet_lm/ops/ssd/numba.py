"""The recurrence itself, compiled, with the state of one head in the innermost cache.

Nothing is laid out in blocks and nothing as large as (block, block) is ever written: an input is read once, an output
written once. All is made of one step of a probed scan of outer products, in either direction of time,

    S = decay_t S + rows_t lanes_t^T        out_t += S^T probe_t

since with inputs u = dt x, and with the gradient to the state, which runs backwards,

    y = scan(B, u; C)                        grad C = scan(u, B; grad y)
    grad u = scan backwards(C, grad y; B)    grad B = scan backwards(grad y, C; u)

In both scans on the right the state lies transposed, so the gradient to the decay, which multiplies the state with its
gradient, comes with them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.native import array, ranges, run
from hnet_lm.ops.ssd._loops import ROWS, loops
from hnet_lm.sequences import Sequences


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    x, B, C = (part.to(dt.dtype) for part in (x, B, C))
    if state is None:
        initial = dt.new_zeros(seqs.num_sequences, B.shape[1], *x.shape[1:])
    else:
        initial = seqs.owned(state).to(dt.dtype)
    y, final = _SSD.apply(x, dt, A, B, C, D, initial, seqs)
    return y, None if state is None else seqs.replaced(state, final)


class _SSD(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, seqs: Sequences
    ) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(x, dt, A, B, C, D, initial)
        ctx.seqs = seqs
        y, final = _scan(B, x * dt[..., None], C, (dt * A).exp(), seqs, initial, x * D[:, None], forward=True)
        return y, final

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_final: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, dt, A, B, C, D, initial = ctx.saved_tensors
        seqs: Sequences = ctx.seqs
        u, decay = x * dt[..., None], (dt * A).exp()
        some = (seqs.lengths > 0).nonzero().squeeze(1)
        decay_after = decay.roll(-1, 0).index_fill_(0, seqs.cu_seqlens[some + 1] - 1, 1)

        grad_u, grad_initial = _scan(C, grad_y, B, decay_after, seqs, grad_final, torch.zeros_like(u), forward=False)
        grad_initial[some] *= decay[seqs.starts[some]][:, None, :, None]
        grad_B, grad_C, grad_log_decay = _scan_both(u, grad_y, B, C, decay, decay_after, seqs, initial, grad_final)
        grad_dt = torch.addcmul((grad_u * x).sum(-1), grad_log_decay, A)
        grad_A, grad_D = (grad_log_decay * dt).sum(0), (grad_y * x).sum((0, 2))
        grad_x = torch.addcmul(grad_u.mul_(dt[..., None]), grad_y, D[:, None])
        return grad_x, grad_dt, grad_A, grad_B, grad_C, grad_D, grad_initial, None


def _scan(
    rows: Tensor,
    lanes: Tensor,
    probe: Tensor,
    decay: Tensor,
    seqs: Sequences,
    initial: Tensor,
    out: Tensor,
    forward: bool,
) -> tuple[Tensor, Tensor]:
    """`out` with the scan added, and the final S; rows and probe are those of all heads (t n), lanes one's (t h p)."""
    final = torch.empty_like(initial, memory_format=torch.contiguous_format)
    inputs = (_padded(rows), lanes, _padded(probe), decay, seqs.cu_seqlens, initial)
    _, num_heads, num_lanes = lanes.shape
    heads = ranges(num_heads, 3 * rows.numel() * num_lanes)
    run(loops(num_lanes).scan, heads, *map(array, inputs), forward, array(out), array(final))
    return out, final


def _scan_both(
    u: Tensor,
    grad_y: Tensor,
    B: Tensor,
    C: Tensor,
    decay: Tensor,
    decay_after: Tensor,
    seqs: Sequences,
    initial: Tensor,
    grad_final: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients to B, to C, and to the logarithm of the decay."""
    num_lanes = B.shape[1]
    heads = ranges(u.shape[1], 8 * u[:, 0].numel() * num_lanes)
    grad_B, grad_C = (u.new_zeros(len(u), len(heads), num_lanes) for _ in range(2))
    grad_log_decay = torch.empty_like(decay)
    inputs = (_padded(u), _padded(grad_y), B, C, decay, decay_after, seqs.cu_seqlens)
    states = (initial.transpose(1, 3), grad_final.transpose(1, 3))
    run(loops(num_lanes).scan_both, heads, *map(array, (*inputs, *states, grad_B, grad_C, grad_log_decay)))
    return grad_B.sum(1), grad_C.sum(1), grad_log_decay


def _padded(rows: Tensor) -> Tensor:
    return pad(rows, (0, -rows.shape[-1] % ROWS))
