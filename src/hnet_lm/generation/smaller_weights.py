"""A model with its weights in another type, for decoding, which waits for weights to be read.

`bfloat16` halves them: all but what the model keeps in float32 by itself. `int8` quarters those of the linear maps,
which are nearly all: each output has a scale of its own, and a weight is the nearest of 255 multiples of it,

    scale_i = max_j |W_ij| / 127        W_ij is about scale_i * round(W_ij / scale_i)

Everything else, the embedding and a head tied to it among it, is float32 then. What that costs in bits per byte is for
`evaluation` to say: nothing here looks at data.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.model import HNetLM
from hnet_lm.model.layers import Linear
from hnet_lm.ops import Int8Weight, linear

Weights = Literal["float32", "bfloat16", "int8"]

LARGEST = 127
"""Of the integers; -128 stays unused, so that they are symmetric."""


class Int8Linear(nn.Module):
    """y = scale * (integers x), in float32: a linear map without bias, rounded. It cannot be trained."""

    scale: Float[Tensor, " d_out"]

    def __init__(self, weight: Float[Tensor, "d_out d_in"]):
        super().__init__()
        weight = weight.detach().float()
        # a row of zeros has a scale too, so that nothing is divided by 0
        scale = (weight.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
        self.integers = nn.Parameter((weight / scale[:, None]).round().to(torch.int8), requires_grad=False)
        self.register_buffer("scale", scale)

    def forward(self, x: Float[Tensor, "t d_in"]) -> Float[Tensor, "t d_out"]:
        return linear(x, self.weight)

    @property
    def weight(self) -> Int8Weight:
        return Int8Weight(self.integers, self.scale)


def with_weights(model: HNetLM, weights: Weights) -> HNetLM:
    """A copy for inference, on the same device; the model itself stays as it is."""
    replaced = {}
    if weights == "int8":
        linears = [module for module in model.modules() if isinstance(module, Linear)]
        replaced = {id(linear): Int8Linear(linear.weight) for linear in linears}
    dtype = torch.bfloat16 if weights == "bfloat16" else torch.float32
    # The memo says what is copied already, and as what: no float copy of a rounded weight is ever made.
    return copy.deepcopy(model, replaced).to(dtype).requires_grad_(False)
