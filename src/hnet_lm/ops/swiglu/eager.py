"""torch's own gate."""

from torch import Tensor
from torch.nn.functional import silu


def swiglu(y: Tensor, gate: Tensor) -> Tensor:
    return (silu(gate) * y).to(y.dtype)
