"""What a linear map may have for weights."""

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor


class RoundedWeight(NamedTuple):
    """Weights in fewer bits than what they are multiplied with. Row i is the numbers, times scale_i if there is one."""

    numbers: Tensor
    """(d_out, d_in), bfloat16 or int8."""
    scale: Float[Tensor, " d_out"] | None

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return torch.float32 if self.scale is None else self.scale.dtype

    @property
    def shape(self) -> torch.Size:
        return self.numbers.shape

    @property
    def device(self) -> torch.device:
        return self.numbers.device

    def to_float(self, dtype: torch.dtype) -> Float[Tensor, "d_out d_in"]:
        numbers = self.numbers.to(dtype)
        return numbers if self.scale is None else self.scale.to(dtype)[:, None] * numbers


LinearWeight: TypeAlias = Float[Tensor, "_ _"] | RoundedWeight
"""d_out rows of d_in; not named, because one function may take several."""
