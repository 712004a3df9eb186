"""What a Mamba-2 mixer carries from one position to the next."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from hnet_lm.state import State


@dataclass
class Mamba2State(State):
    """The last inputs of the convolution and the matrix of every head: constant in size, however long the sequence."""

    conv: Float[Tensor, "s w_minus_1 d_conv"]
    ssm: Float[Tensor, "s n h p"]
