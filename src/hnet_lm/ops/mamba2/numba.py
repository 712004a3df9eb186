"""One position a sequence in compiled loops, on the state where it lies; longer spans by the ops.

Small projections of few sequences are in the same loop (`one_loop`).
"""

import torch
from torch import Tensor

from hnet_lm.ops.linear import linear
from hnet_lm.ops.mamba2._composed import composed
from hnet_lm.ops.mamba2._loops import inner, whole
from hnet_lm.ops.mamba2._weights import Mamba2Weights
from hnet_lm.ops.native import ONE, WIDEST, addresses, ranges, run
from hnet_lm.ops.one_loop import is_step, operands
from hnet_lm.ops.rms_norm import PreNorm, pre_normed
from hnet_lm.sequences import Sequences


def mamba2(
    u: Tensor,
    weights: Mamba2Weights,
    eps: float,
    seqs: Sequences,
    conv_state: Tensor | None,
    ssm_state: Tensor | None,
    pre_norm: PreNorm | None,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    in_proj, *between, out_proj = weights
    projections = (in_proj, out_proj)
    if conv_state is None or ssm_state is None or weights.conv.shape[0] > WIDEST:
        return composed("numba", u, weights, eps, seqs, conv_state, ssm_state, pre_norm)
    if not is_step(seqs, u, pre_norm, projections, (*between, conv_state, ssm_state)):
        return composed("numba", u, weights, eps, seqs, conv_state, ssm_state, pre_norm)
    d_conv, _, width = weights.conv.shape
    sizes = (*u.shape, weights.norm.shape[0], d_conv, width, weights.D.shape[0], conv_state.shape[0])
    real = type(ONE[u.dtype])(eps)
    slots = seqs.busy_slots(conv_state)
    held = (addresses(*between), *addresses(slots, conv_state, ssm_state))
    ends = operands(u, pre_norm, *projections)
    if ends is not None:
        out = torch.empty_like(u)
        whole(sizes, real, u.data_ptr(), *ends, *held, out.data_ptr())
    else:
        zxBCdt = linear(pre_normed(u, pre_norm, "numba"), in_proj, backend="numba")
        y = u.new_empty(u.shape[0], weights.norm.shape[0])
        parts = ranges(u.shape[0], 3 * ssm_state.shape[1:].numel())
        run(inner, parts, sizes, real, zxBCdt.data_ptr(), *held, y.data_ptr())
        out = linear(y, out_proj, backend="numba")
    return out, conv_state, ssm_state
