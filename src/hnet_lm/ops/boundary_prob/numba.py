"""One position of few sequences in a compiled loop, on the state where it lies; everything else by torch."""

from torch import Tensor

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.ops.boundary_prob._loops import step
from hnet_lm.ops.boundary_prob.torch import boundary_prob as many_positions
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.linear.numba import operand
from hnet_lm.ops.native import ONE, addresses, is_watched
from hnet_lm.sequences import Sequences


def boundary_prob(
    x: Tensor,
    q_proj: LinearWeight,
    k_proj: LinearWeight,
    seqs: Sequences,
    last: Tensor | None,
    has_seen: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    part_q, part_k = operand(x, q_proj), operand(x, k_proj)
    if last is None or has_seen is None or part_q is None or part_k is None or not part_q.is_small:
        return many_positions(x, q_proj, k_proj, seqs, last, has_seen)
    is_contiguous = x.is_contiguous() and last.is_contiguous() and has_seen.is_contiguous()
    if seqs.max_length > 1 or last.dtype != x.dtype or not is_contiguous or is_watched(x, q_proj, k_proj, last):
        return many_positions(x, q_proj, k_proj, seqs, last, has_seen)
    p, slots = x.new_empty(x.shape[0]), seqs.busy_slots(last)
    sizes = (x.shape[0], *last.shape, type(ONE[x.dtype])(EPS))
    states = addresses(slots, last, has_seen, p)
    step(*sizes, x.data_ptr(), *part_q[:3], *part_k[:3], *states)
    return p, last, has_seen
