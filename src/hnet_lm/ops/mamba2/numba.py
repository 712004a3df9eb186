"""One position a sequence in one compiled loop (`one_call`), on the state where it lies; longer spans by the ops."""

import torch
from torch import Tensor

from hnet_lm.ops.mamba2._composed import composed
from hnet_lm.ops.mamba2._loops import mamba2_job, step_job
from hnet_lm.ops.mamba2._state import Mamba2State
from hnet_lm.ops.mamba2._weights import Mamba2Weights
from hnet_lm.ops.native import WIDEST, addresses
from hnet_lm.ops.one_call import Call, bits, is_step, norm_and_ends, run_calls
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.sequences import Sequences


def mamba2(
    u: Tensor,
    weights: Mamba2Weights,
    eps: float,
    seqs: Sequences,
    state: Mamba2State | None,
    pre_norm: PreNorm | None,
) -> tuple[Tensor, Mamba2State | None]:
    out = torch.empty_like(u)
    call = mamba2_call(u, out, weights, eps, seqs, state, pre_norm)
    if call is None:
        return composed("numba", u, weights, eps, seqs, state, pre_norm)
    run_calls([call])
    return out, state


def mamba2_call(
    u: Tensor,
    out: Tensor,
    weights: Mamba2Weights,
    eps: float,
    seqs: Sequences,
    state: Mamba2State | None,
    pre_norm: PreNorm | None,
) -> Call | None:
    """One position of each sequence into `out`, or added to u if that is u; None where loops cannot do it."""
    in_proj, *between, out_proj = weights
    projections = (in_proj, out_proj)
    if state is None or weights.conv.shape[0] > WIDEST:
        return None
    if not is_step(seqs, u, pre_norm, projections, (*between, state.conv, state.ssm)):
        return None
    d_conv, _, width = weights.conv.shape
    sizes = (*u.shape, weights.norm.shape[0], d_conv, width, weights.D.shape[0], state.conv.shape[0])
    held = (*addresses(*between), bits(eps), *addresses(seqs.busy_slots(state.conv), state.conv, state.ssm))
    ends = norm_and_ends(u, out, pre_norm, *projections)
    return Call(mamba2_job(u.dtype), (*ends, step_job(u.dtype), *sizes, *held))
