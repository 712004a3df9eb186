"""Few positions in one compiled loop (`one_loop`); many by the ops."""

import torch
from torch import Tensor

from hnet_lm.ops.gated_mlp._composed import composed
from hnet_lm.ops.gated_mlp._loops import whole
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.native import ONE, is_watched
from hnet_lm.ops.one_loop import operands
from hnet_lm.ops.rms_norm import PreNorm


def gated_mlp(x: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Tensor:
    ends = operands(x, pre_norm, fc1, fc2) if x.is_contiguous() else None
    if ends is None or is_watched(x, fc1, fc2, pre_norm and pre_norm.weight):
        return composed("numba", x, fc1, fc2, pre_norm)
    out = torch.empty_like(x)
    whole(*x.shape, fc2.shape[1], ONE[x.dtype], x.data_ptr(), *ends, out.data_ptr())
    return out
