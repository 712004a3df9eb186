"""One position a sequence in a compiled loop, on the state where it lies; everything else by torch."""

from torch import Tensor

from hnet_lm.ops.boundary_prob import EPS
from hnet_lm.ops.boundary_prob._loops import step
from hnet_lm.ops.boundary_prob.torch import boundary_prob as many_positions
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.linear.numba import operand
from hnet_lm.ops.native import ONE, addresses
from hnet_lm.ops.one_call import is_step
from hnet_lm.ops.team import team
from hnet_lm.sequences import Sequences


def boundary_prob(
    x: Tensor,
    q_proj: LinearWeight,
    k_proj: LinearWeight,
    seqs: Sequences,
    last: Tensor | None,
    has_seen: Tensor | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    if last is None or has_seen is None or not has_seen.is_contiguous():
        return many_positions(x, q_proj, k_proj, seqs, last, has_seen)
    if not is_step(seqs, x, None, (q_proj, k_proj), (last,)):
        return many_positions(x, q_proj, k_proj, seqs, last, has_seen)
    p, slots = x.new_empty(x.shape[0]), seqs.busy_slots(last)
    sizes = (x.shape[0], *last.shape, type(ONE[x.dtype])(EPS))
    states = addresses(slots, last, has_seen, p)
    step(team(), *sizes, x.data_ptr(), *operand(x, q_proj), *operand(x, k_proj), *states)
    return p, last, has_seen
