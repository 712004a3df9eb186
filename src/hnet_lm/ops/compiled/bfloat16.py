"""bfloat16 in compiled loops, whose compiler does not know it: there it is an integer, the upper half of a float32."""

from typing import Any, no_type_check

import numpy as np
from numba import types
from numba.extending import overload

from hnet_lm.ops.compiled.jit import compiled

NAN = np.uint16(0x7FC0)
LOWER_HALF, LAST_BIT, BITS = np.uint32(0x7FFF), np.uint32(1), np.uint32(16)


def widened(number: Any) -> Any:
    """A bfloat16 as float32; any other number as it is."""
    return number


def narrowed(number: Any, like: Any) -> Any:
    """The number as an array like this one keeps it: the nearest bfloat16 (of two the even one), or as it is."""
    return number


@no_type_check  # of Python: numba has types of its own
@overload(widened, inline="always")
def _widened(number):
    if number == types.uint16:
        return lambda number: np.uint32(np.uint32(number) << BITS).view(np.float32)
    return lambda number: number


@no_type_check
@overload(narrowed, inline="always")
def _narrowed(number, like):
    if like.dtype == types.uint16:
        return lambda number, like: _rounded(number)
    return lambda number, like: number


@no_type_check
@compiled
def _rounded(number):
    bits = np.float32(number).view(np.uint32)
    return np.uint16((bits + LOWER_HALF + ((bits >> BITS) & LAST_BIT)) >> BITS) if number == number else NAN
