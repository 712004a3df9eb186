"""The formula."""

import torch
from torch import Tensor


def rms_norm(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    v = x.to(wide)
    if gate is not None:
        v = v * gate.to(wide) * torch.sigmoid(gate.to(wide))
    return (v / (v.square().mean(-1, keepdim=True) + eps).sqrt() * weight.to(wide)).to(dtype)
