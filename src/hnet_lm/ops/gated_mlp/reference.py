"""The formula."""

from torch import Tensor

from hnet_lm.ops.linear import LinearWeight, linear
from hnet_lm.ops.rms_norm import PreNorm, pre_normed


def gated_mlp(x: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Tensor:
    y, gate = linear(pre_normed(x, pre_norm, "reference"), fc1, backend="reference").chunk(2, dim=-1)
    return linear(gate * gate.sigmoid() * y, fc2, backend="reference")
