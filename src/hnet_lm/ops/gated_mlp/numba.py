"""Some positions in one compiled loop (`one_call`); many by the ops."""

import torch
from torch import Tensor

from hnet_lm.ops.gated_mlp._composed import composed
from hnet_lm.ops.gated_mlp._loops import mlp_job
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.linear.numba import SOME
from hnet_lm.ops.one_call import Call, is_plain, norm_and_ends, run_calls
from hnet_lm.ops.rms_norm import PreNorm


def gated_mlp(x: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Tensor:
    out = torch.empty_like(x)
    call = mlp_call(x, out, fc1, fc2, pre_norm) if x.shape[0] <= SOME else None
    if call is None:
        return composed("numba", x, fc1, fc2, pre_norm)
    run_calls([call])
    return out


def mlp_call(x: Tensor, out: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Call | None:
    """Into `out`, or added to x if that is x; None where loops cannot do it."""
    if not is_plain(x, pre_norm, (fc1, fc2)):
        return None
    return Call(mlp_job(x.dtype), (*norm_and_ends(x, out, pre_norm, fc1, fc2), *x.shape, fc2.shape[1]))
