"""A model with its weights in another type, for decoding, which waits for weights to be read.

Only the weights of the linear maps are rounded, which are nearly all: to the nearest `bfloat16`, half as large, or to
`int8`, a quarter, where each output has a scale of its own and a weight is the nearest of 255 multiples of it,

    scale_i = max_j |W_ij| / 127        W_ij is about scale_i * round(W_ij / scale_i)

Everything else, the embedding and a head tied to it among it, is float32 then, and so is all that is computed. On other
devices than the CPU, whose products are the faster ones in bfloat16, that is the type of the whole model. What it costs
in bits per byte is for `evaluation` to say: nothing here looks at data.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.model import HNetLM

Weights = Literal["float32", "bfloat16", "int8"]

LARGEST = 127
"""Of the integers; -128 stays unused, so that they are symmetric."""


class RoundedLinear(nn.Module):
    """A linear map without bias, rounded, in float32: y = scale * (numbers x). It cannot be trained."""

    scale: Float[Tensor, " d_out"] | None

    def __init__(self, weight: Float[Tensor, "d_out d_in"], dtype: torch.dtype):
        super().__init__()
        weight, scale = weight.detach().float(), None
        if dtype == torch.int8:
            # a row of zeros has a scale too, so that nothing is divided by 0
            scale = (weight.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
            weight = (weight / scale[:, None]).round()
        self.numbers = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        y = nn.functional.linear(x.float(), self.numbers.float())
        return y if self.scale is None else y * self.scale


def with_weights(model: HNetLM, weights: Weights) -> HNetLM:
    """A copy for inference, on the same device; the model itself stays as it is."""
    dtype = getattr(torch, weights)
    if dtype == torch.bfloat16 and model.device.type != "cpu":
        return copy.deepcopy(model).to(dtype).requires_grad_(False)
    replaced = {}
    if dtype != torch.float32:
        linears = [module for module in model.modules() if type(module) is nn.Linear]
        replaced = {id(linear): RoundedLinear(linear.weight, dtype) for linear in linears}
    smaller = copy.deepcopy(model, replaced)  # the memo says what is copied already, and as what
    for module in smaller.modules():
        if not isinstance(module, RoundedLinear):
            module._apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, recurse=False)
    return smaller.requires_grad_(False)
