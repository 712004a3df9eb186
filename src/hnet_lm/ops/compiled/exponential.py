"""The exponential and the logistic function for compiled loops, of which the compiler can make vectors.

A call of the C library's exponential takes one number at a time. In float32 the exponential is computed here, by the
polynomial of Cephes' expf (Moshier): 2^k exp(r), x = k ln 2 + r, to within 1e-7 of its value.
"""

import math
from typing import Any, no_type_check

import numpy as np
from numba import types
from numba.extending import overload

from hnet_lm.ops.compiled.jit import inlined

LIMIT = np.float32(87)
"""exp(-x) of float32 stays finite and normal up to here."""
LOG2_E = np.float32(1.44269504)
LN2_HIGH, LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)
C6, C5, C4 = np.float32(1.9875691500e-4), np.float32(1.3981999507e-3), np.float32(8.3334519073e-3)
C3, C2, C1 = np.float32(4.1665795894e-2), np.float32(1.6666665459e-1), np.float32(5.0000001201e-1)
ONE, HALF = np.float32(1), np.float32(0.5)
BIAS, MANTISSA_BITS = np.int32(127), np.int32(23)


def exp(x: Any) -> Any:
    """The exponential of a number; in float32 it ends at exp(-87) below and at exp(87) above."""
    return math.exp(x)


def sigmoid(x: Any) -> Any:
    """1 / (1 + exp(-x)) of a number."""
    return 1 / (1 + math.exp(-x))


@no_type_check  # of Python: numba has types of its own
@inlined
def _exp(x):
    x = min(max(x, -LIMIT), LIMIT)
    k = np.floor(x * LOG2_E + HALF)
    r = x - k * LN2_HIGH - k * LN2_LOW
    tail = ((((C6 * r + C5) * r + C4) * r + C3) * r + C2) * r + C1
    power = np.int32((np.int32(k) + BIAS) << MANTISSA_BITS).view(np.float32)
    return (tail * r * r + r + ONE) * power


@no_type_check
@overload(exp, inline="always")
def _exp_of_a_type(x):
    if x == types.float32:
        return lambda x: _exp(x)
    return lambda x: math.exp(x)


@no_type_check
@overload(sigmoid, inline="always")
def _sigmoid(x):
    if x == types.float32:
        return lambda x: ONE / (ONE + _exp(-x))
    return lambda x: 1 / (1 + math.exp(-x))
