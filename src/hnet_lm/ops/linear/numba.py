"""Some positions: weights read as they lie, a range of outputs a thread; many are left to torch's product.

For few positions torch's product reads weights at a third of the speed of this loop (float32, from the last cache).
"""

from typing import Any, NamedTuple

from torch import Tensor

from hnet_lm.ops.linear._loops import product
from hnet_lm.ops.linear._weight import LinearWeight, RoundedWeight
from hnet_lm.ops.linear.torch import linear as many_positions
from hnet_lm.ops.native import MIN_WORK_A_THREAD, ONE, is_watched, ranges, run

SOME = 256
"""Positions up to which the compiled loop is used; it was never the slower one, but reads weights anew for each few."""
VECTOR = 8
"""Multiplications in one instruction, at least: a range of outputs is done sooner than its number of them says."""
READING = 4
"""Positions that could be multiplied while the weights are read, for which fewer have to wait."""


def linear(x: Tensor, weight: LinearWeight) -> Tensor:
    x = x.contiguous()
    part = operand(x, weight)
    if part is None or is_watched(x, weight):
        return many_positions(x, weight)
    (num_positions, d_in), d_out = x.shape, part.d_out
    y = x.new_empty(num_positions, d_out)
    parts = ranges(d_out, _work(num_positions, d_in))
    run(product, parts, ONE[x.dtype], part.one, num_positions, d_in, d_out, x.data_ptr(), *part[1:3], y.data_ptr())
    return y


class Operand(NamedTuple):
    """What loops take of a weight: a number of its type, the addresses of matrix and scale (0: none)."""

    one: Any
    matrix: int
    scale: int
    d_out: int
    is_small: bool
    """Whether one thread is enough, so that the product may be a part of a larger loop."""


def operand(x: Tensor, weight: LinearWeight) -> Operand | None:
    """None where loops do not do it: many positions, a narrow type, weights of another type or with gaps."""
    matrix, scale = weight if isinstance(weight, RoundedWeight) else (weight, None)
    (num_positions, d_in), dtype = x.shape, x.dtype
    if num_positions > SOME or dtype.itemsize < 4 or not matrix.is_contiguous():
        return None
    if weight.dtype != dtype or (scale is not None and not scale.is_contiguous()):
        return None
    d_out = matrix.shape[0]
    is_small = d_out * _work(num_positions, d_in) < 2 * MIN_WORK_A_THREAD
    return Operand(ONE[matrix.dtype], matrix.data_ptr(), 0 if scale is None else scale.data_ptr(), d_out, is_small)


def _work(num_positions: int, d_in: int) -> int:
    """Of an output, for `ranges`."""
    return max(num_positions, READING) * d_in // VECTOR
