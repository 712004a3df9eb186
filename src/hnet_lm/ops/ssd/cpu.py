"""The scan in tiles of a few positions, compiled, with the state of one head in the innermost cache.

Nothing of size (block, block) leaves a loop's own stack: each input is read once and each output written once, in place
and in its own type; the state and the computation are in at least float32. Everything is made of one step of a probed
scan of outer products, in either direction of time,

    S = decay_t S + rows_t lanes_t^T        out_t = S^T probe_t

since with inputs u = dt x, and with the gradient to the state, which runs backwards,

    y = scan(B, u; C)                        grad C = scan(u, B; grad y)
    grad u = scan backwards(C, grad y; B)    grad B = scan backwards(grad y, C; u)

In both scans on the right the state is transposed, so they also yield the gradient to the decay, which multiplies the
state with its gradient.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from hnet_lm.ops.compiled.memory import array, rows, with_unit_stride
from hnet_lm.ops.compiled.threads import run_ranges, split_range
from hnet_lm.ops.compiled.vectors import num_lanes
from hnet_lm.ops.ssd._loops import Loops, loops
from hnet_lm.sequences import Sequences

PIECE = 2048
"""Positions of a sequence at a time."""
MAX_STATE = 1 << 16
"""Numbers of one head's state for which loops have room on their stack."""
TYPES = (torch.float32, torch.float64, torch.bfloat16)


def supports(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> str | None:
    if x.device.type != "cpu":
        return f"it runs on the CPU, not on {x.device.type}"
    if x.dtype not in TYPES or dt.dtype != torch.promote_types(x.dtype, torch.float32):
        return f"it knows {', '.join(map(str, TYPES))}, and dt in the type of x or in float32 where that is narrower"
    if B.shape[1] * x.shape[2] > MAX_STATE or not B.shape[1] or not x.shape[2]:
        return f"the state of a head must have 1 to {MAX_STATE} numbers"
    return None


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    if state is None:
        initial = dt.new_zeros(seqs.num_sequences, B.shape[1], *x.shape[1:])
    else:
        initial = seqs.owned(state).to(dt.dtype)
    bounds, owner = pieces_of(seqs)
    y, final, _ = _ssd(x.flatten(1), dt, A, B, C, D, initial, bounds, owner)
    return y.view(x.shape), None if state is None else seqs.replaced(state, final)


def pieces_of(seqs: Sequences) -> tuple[Tensor, Tensor]:
    """Where each piece of a sequence begins and the last one ends; and the sequence of each piece. An empty sequence
    has one piece too. Made once, shared by every layer that sees these sequences."""
    return seqs.memo("pieces of the scan", lambda: _pieces(seqs))


def _pieces(seqs: Sequences) -> tuple[Tensor, Tensor]:
    bounds, owner = [0], []
    for sequence, length in enumerate(seqs.host_lengths):
        start = bounds[-1]
        for end in range(PIECE, max(length, 1) + PIECE, PIECE):
            bounds.append(start + min(end, length))
            owner.append(sequence)
    return torch.tensor(bounds), torch.tensor(owner, dtype=torch.int64)


def scan(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, bounds: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """y, the final states, and the states at the start of each piece that is not its sequence's first. The heads of x
    and y are side by side."""
    x, B, C = map(with_unit_stride, (x, B, C))
    D = D.clone()  # it may be a weight: FSDP frees the memory of weights, which it cannot while an array refers to it
    y, final = torch.empty(x.shape, dtype=x.dtype), initial.clone(memory_format=torch.contiguous_format)
    starts = initial.new_empty(len(owner) - len(initial), *initial.shape[1:])
    inputs = rows(x), array(dt), array(A), rows(B), rows(C), *map(array, (D, bounds, owner))
    run_ranges(_loops(initial).forward, _heads(x, initial, 3), *inputs, rows(y), array(starts), array(final))
    return y, final, starts


_ssd = torch.library.custom_op("hnet_lm::ssd_cpu", mutates_args=())(scan)


@_ssd.register_fake
def _(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, initial: Tensor, bounds: Tensor, owner: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    starts = initial.new_empty(len(owner) - len(initial), *initial.shape[1:])
    return x.new_empty(x.shape), initial.new_empty(initial.shape), starts


def scan_backward(
    grad_y: Tensor,
    grad_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial: Tensor,
    bounds: Tensor,
    owner: Tensor,
    starts: Tensor,
    grad_x: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to dt, A, B, C, D and the initial states, those to B and C in the type of dt; that to x is written to
    `grad_x`."""
    x, B, C, grad_y = map(with_unit_stride, (x, B, C, grad_y))
    D = D.clone()  # as in the forward pass
    grad_dt, grad_D = torch.empty(dt.shape, dtype=dt.dtype), D.new_zeros(len(D))
    grad_initial, again = (grad_final.clone(memory_format=torch.contiguous_format) for _ in range(2))
    inputs = rows(grad_y), rows(x), array(dt), array(A), rows(B), rows(C)
    pieces = array(bounds), array(owner)
    outputs = rows(grad_x), *map(array, (grad_dt, grad_D, grad_initial))
    run_ranges(_loops(initial).to_inputs, _heads(x, initial, 3), *inputs, array(D), *pieces, *outputs)

    heads = _heads(x, initial, 8)
    grad_B, grad_C = (dt.new_zeros(len(heads), *B.shape) for _ in range(2))
    grad_log_decay = torch.empty(dt.shape, dtype=dt.dtype)
    outputs = map(array, (grad_B, grad_C, grad_log_decay, again))
    run_ranges(_loops(initial).to_projections, heads, *inputs, *pieces, array(initial), array(starts), *outputs)

    grad_dt.addcmul_(grad_log_decay, A)
    grad_A = (grad_log_decay * dt).sum(0)
    return grad_dt, grad_A, grad_B.sum(0), grad_C.sum(0), grad_D, grad_initial


@torch.library.custom_op("hnet_lm::ssd_cpu_backward", mutates_args=())
def _ssd_backward(
    grad_y: Tensor,
    grad_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial: Tensor,
    bounds: Tensor,
    owner: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients to x, dt, A, B, C, D and the initial states."""
    grad_x = torch.empty(x.shape, dtype=x.dtype)
    grad_dt, grad_A, grad_B, grad_C, grad_D, grad_initial = scan_backward(
        grad_y, grad_final, x, dt, A, B, C, D, initial, bounds, owner, starts, grad_x
    )
    return grad_x, grad_dt, grad_A, grad_B.to(B.dtype), grad_C.to(C.dtype), grad_D, grad_initial


@_ssd_backward.register_fake
def _(
    grad_y: Tensor,
    grad_final: Tensor,
    x: Tensor,
    dt: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor,
    initial: Tensor,
    bounds: Tensor,
    owner: Tensor,
    starts: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    x, dt, A, B, C, D, initial = (each.new_empty(each.shape) for each in (x, dt, A, B, C, D, initial))
    return x, dt, A, B, C, D, initial


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor]) -> None:
    ctx.mark_non_differentiable(output[2])
    ctx.save_for_backward(*inputs, output[2])


def _backward(ctx: Any, grad_y: Tensor, grad_final: Tensor, _: Any) -> tuple[Tensor | None, ...]:
    return *_ssd_backward(grad_y, grad_final, *ctx.saved_tensors), None, None


_ssd.register_autograd(_backward, setup_context=_setup_context)


@register_flop_formula(torch.ops.hnet_lm.ssd_cpu)
def _flops(x_shape: Any, dt_shape: Any, A_shape: Any, B_shape: Any, *args: Any, **kwargs: Any) -> int:
    return 6 * x_shape[0] * x_shape[1] * B_shape[1]  # decay, outer product, and the product with C


@register_flop_formula(torch.ops.hnet_lm.ssd_cpu_backward)
def _flops_backward(
    grad_y: Any, grad_final: Any, x_shape: Any, dt_shape: Any, A_shape: Any, B_shape: Any, *args: Any, **kwargs: Any
) -> int:
    return 2 * _flops(x_shape, dt_shape, A_shape, B_shape)


def _loops(state: Tensor) -> Loops:
    _, num_states, _, head_dim = state.shape
    return loops(num_states, head_dim, num_lanes(state.dtype))


def _heads(x: Tensor, state: Tensor, work: int) -> list[tuple[int, int]]:
    """Ranges of heads, for this many multiplications per position and number of the state."""
    _, num_states, num_heads, head_dim = state.shape
    return split_range(num_heads, len(x) * num_states * head_dim * work)
