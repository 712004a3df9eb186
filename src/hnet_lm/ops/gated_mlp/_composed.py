"""The ops one after the other, with torch's gate."""

from torch import Tensor
from torch.nn.functional import silu

from hnet_lm.ops.linear import LinearWeight, linear
from hnet_lm.ops.rms_norm import PreNorm, pre_normed


def composed(backend: str, x: Tensor, fc1: LinearWeight, fc2: LinearWeight, pre_norm: PreNorm | None) -> Tensor:
    y, gate = linear(pre_normed(x, pre_norm, backend), fc1, backend=backend).chunk(2, dim=-1)
    return linear(silu(gate) * y, fc2, backend=backend)
