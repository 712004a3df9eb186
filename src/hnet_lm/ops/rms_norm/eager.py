"""torch's own norm, behind torch's own gate."""

import torch
from torch import Tensor
from torch.nn.functional import rms_norm as torch_rms_norm
from torch.nn.functional import silu


def rms_norm(x: Tensor, weight: Tensor, eps: float, gate: Tensor | None, dtype: torch.dtype) -> Tensor:
    wide = torch.promote_types(x.dtype, torch.float32)
    x = x.to(wide)
    if gate is not None:
        x = x * silu(gate.to(wide))
    return torch_rms_norm(x, weight.shape, weight.to(wide), eps).to(dtype)
