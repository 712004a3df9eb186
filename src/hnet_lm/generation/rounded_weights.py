"""A model with its weights in another type, for decoding, which waits for weights to be read.

Only the weights of the linear maps are rounded, which are nearly all: to the nearest `bfloat16`, half as large, or to
`int8`, a quarter, where each output has a scale of its own and a weight is the nearest of 255 multiples of it,

    scale_i = max_j |W_ij| / 127        W_ij is about scale_i * round(W_ij / scale_i)

Everything else is float32 then, the embedding and a head tied to it included, and so is all that is computed: this
module turns the numbers to floats in each call, which saves memory and not time. A stepper that has compiled loops
reads the numbers as they are. On other devices than the CPU, whose products are faster in bfloat16, `bfloat16` is the
type of the whole model. What a type costs in bits per byte is for `evaluation` to say: nothing here looks at data.

A layer that is no plain `nn.Linear` any more, such as one that another library has quantised, stays as it is.
"""

import copy
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from hnet_lm.model import HNetLM

Weights = Literal["float32", "bfloat16", "int8"]

LARGEST = 127
"""Of the integers; -128 stays unused, so that they are symmetric."""


class RoundedLinear(nn.Module):
    """A linear map, rounded: y = scale * (numbers x), and the bias as it was. It cannot be trained."""

    scale: Float[Tensor, " d_out"] | None

    def __init__(
        self, weight: Float[Tensor, "d_out d_in"], dtype: torch.dtype, bias: Float[Tensor, " d_out"] | None = None
    ):
        super().__init__()
        weight, scale = weight.detach().float(), None
        if dtype == torch.int8:
            # a row of zeros has a scale too, so that nothing is divided by 0
            scale = (weight.abs().amax(1) / LARGEST).clamp_min(torch.finfo(torch.float32).tiny)
            weight = (weight / scale[:, None]).round()
        self.numbers = nn.Parameter(weight.to(dtype), requires_grad=False)
        self.register_buffer("scale", scale)
        self.bias = None if bias is None else nn.Parameter(bias.detach().float(), requires_grad=False)

    def forward(self, x: Float[Tensor, "*t d_in"]) -> Float[Tensor, "*t d_out"]:
        y = linear(x, self.numbers.to(x.dtype))
        y = y if self.scale is None else y * self.scale.to(x.dtype)
        return y if self.bias is None else y + self.bias.to(x.dtype)

    @property
    def weight(self) -> Float[Tensor, "d_out d_in"]:
        """The rounded weight in float32: a new tensor each time."""
        weight = self.numbers.float()
        return weight if self.scale is None else weight * self.scale[:, None]


def with_weights(model: HNetLM, weights: Weights) -> HNetLM:
    """A copy for inference, on the same device; the model itself stays as it is."""
    dtype = getattr(torch, weights)
    if dtype == torch.bfloat16 and model.device.type != "cpu":
        return copy.deepcopy(model).to(dtype).requires_grad_(False)
    replaced = {}
    if dtype != torch.float32:
        replaced = {id(module): _rounded(module, dtype) for module in model.modules() if _is_plain_linear(module)}
    rounded = copy.deepcopy(model, replaced)  # the memo says what is copied already, and as what
    for module in rounded.modules():
        if not isinstance(module, RoundedLinear):
            module._apply(lambda tensor: tensor.float() if tensor.is_floating_point() else tensor, recurse=False)
    return rounded.requires_grad_(False)


def _is_plain_linear(module: nn.Module) -> bool:
    """Exactly what the model is built of: no subclass, and no weight that is another library's kind of tensor."""
    return type(module) is nn.Linear and type(module.weight) is nn.Parameter


def _rounded(module: nn.Module, dtype: torch.dtype) -> RoundedLinear:
    assert isinstance(module, nn.Linear)
    rounded = RoundedLinear(module.weight, dtype, module.bias)
    # as torch's own quantisation does: hooks stay on the layer they were registered on
    vars(rounded).update({name: hooks.copy() for name, hooks in vars(module).items() if "_hooks" in name and hooks})
    return rounded.train(module.training)
