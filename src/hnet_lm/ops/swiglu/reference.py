"""The formula."""

import torch
from torch import Tensor


def swiglu(y: Tensor, gate: Tensor) -> Tensor:
    wide = torch.promote_types(y.dtype, torch.float32)
    gate = gate.to(wide)
    return (gate * torch.sigmoid(gate) * y.to(wide)).to(y.dtype)
