"""What a linear map may have for weights."""

from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int8
from torch import Tensor


class Int8Weight(NamedTuple):
    """Row i is scale_i times the integers."""

    integers: Int8[Tensor, "d_out d_in"]
    scale: Float[Tensor, " d_out"]

    @property
    def dtype(self) -> torch.dtype:
        """Of the products."""
        return self.scale.dtype

    @property
    def shape(self) -> torch.Size:
        return self.integers.shape

    @property
    def device(self) -> torch.device:
        return self.scale.device

    def to_float(self, dtype: torch.dtype) -> Float[Tensor, "d_out d_in"]:
        return self.scale.to(dtype)[:, None] * self.integers.to(dtype)


LinearWeight: TypeAlias = Float[Tensor, "_ _"] | Int8Weight
"""d_out rows of d_in; not named, because one function may take several."""
