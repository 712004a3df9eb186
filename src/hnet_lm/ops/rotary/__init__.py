"""Rotary position embedding (Su et al., arXiv 2104.09864): non-interleaved halves.

Of the first `dim` entries of each head, entries i and i + dim/2 are rotated by the angle position * base^(-2i/dim), or
by position * frequencies[i]. The base is 10000 unless another is given.
"""

import math

from jaxtyping import Float, Int
from torch import Tensor

from hnet_lm.ops.checks import WHOLE_NUMBERS, require_floating, require_plain, require_shape, require_whole_number
from hnet_lm.ops.dispatch import Op

_op = Op(__name__)

BASE = 10000.0


def rotary(
    x: Float[Tensor, "t h p"],
    positions: Int[Tensor, " t"],
    dim: int,
    base: float = BASE,
    frequencies: tuple[float, ...] | None = None,
    magnitude: float = 1.0,
    *,
    backend: str | None = None,
) -> Float[Tensor, "t h p"]:
    """x with the first `dim` entries of every head rotated, in at least float32; of the type of x.

    `frequencies` are radians per position, dim/2 of them, and `magnitude` multiplies what is rotated (YaRN).
    Raises ValueError for shapes that do not fit, and for a `dim` that is odd or wider than a head.
    """
    require_floating("rotary", x=x)
    require_plain("rotary", "positions", positions)
    require_whole_number("rotary", "dim", dim, 0)
    if x.dim() != 3 or dim % 2 or dim > x.shape[2]:
        raise ValueError(f"rotary: x must be (t, h, p) and dim even, 0 to p; got {tuple(x.shape)} and {dim}")
    require_shape("rotary", "positions", positions, x.shape[0])
    if positions.dtype not in WHOLE_NUMBERS or positions.device != x.device:
        given = f"{positions.dtype} on {positions.device}"
        raise ValueError(f"rotary: positions must be whole numbers on {x.device}, got {given}")
    if not (base > 1 and math.isfinite(base) and magnitude > 0 and math.isfinite(magnitude)):
        raise ValueError(f"rotary: base must be above 1 and magnitude above 0, got {base} and {magnitude}")
    if frequencies is not None and len(frequencies) != dim // 2:
        raise ValueError(f"rotary: {dim // 2} frequencies go with a dim of {dim}, got {len(frequencies)}")
    return _op.run(backend, x.device, x, positions, dim, float(base), frequencies, float(magnitude))
