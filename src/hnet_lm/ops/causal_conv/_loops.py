"""The compiled loops of the convolution over strips of channels: `(worker, first strip, last strip, ...)`.

The inputs that the window sees move through `window`, oldest first; it begins with what was carried and ends with what
is to be carried on. The backward pass goes in the same direction of time: `to_window` has the gradients to those
inputs, and that to the oldest is complete when it leaves.

All arrays have their channels filled up to whole strips.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.exponential import sigmoid
from hnet_lm.ops.native import compiled

STRIP = 64
"""Channels side by side; a fixed number, so that the compiler knows that the rows of a strip do not overlap."""


class Loops(NamedTuple):
    forward: Callable[..., None]
    backward: Callable[..., None]


@no_type_check  # of Python: numba has types of its own
@cache
def loops(width: int) -> Loops:
    """Compiled for a number of taps."""
    past_width = width - 1

    @compiled
    def forward(worker, first, last, x, taps, bias, past, bounds, y, last_inputs):
        tap, window = np.empty((last, width, STRIP), x.dtype), np.empty((last, width, STRIP), x.dtype)
        offset, out = np.empty((last, STRIP), x.dtype), np.empty(STRIP, x.dtype)
        for c in range(first, last):
            for j in range(STRIP):
                offset[c, j] = bias[c, j]
                for k in range(width):
                    tap[c, k, j] = taps[k, c, j]
        for s in range(len(bounds) - 1):
            for c in range(first, last):
                for k in range(past_width):
                    for j in range(STRIP):
                        window[c, k + 1, j] = past[s, k, c, j]
            for t in range(bounds[s], bounds[s + 1]):
                for c in range(first, last):
                    for j in range(STRIP):
                        for k in range(past_width):
                            window[c, k, j] = window[c, k + 1, j]
                    for j in range(STRIP):
                        window[c, past_width, j] = x[t, c, j]
                    for j in range(STRIP):
                        total = offset[c, j]
                        for k in range(width):
                            total += tap[c, k, j] * window[c, k, j]
                        out[j] = total * sigmoid(total)
                    for j in range(STRIP):
                        y[t, c, j] = out[j]
            for c in range(first, last):
                for k in range(past_width):
                    for j in range(STRIP):
                        last_inputs[s, k, c, j] = window[c, k + 1, j]

    @compiled
    def backward(
        worker, first, last, grad_y, grad_last, x, taps, bias, past, bounds, grad_x, grad_taps, grad_bias, grad_past
    ):
        tap, window = np.empty((last, width, STRIP), x.dtype), np.empty((last, width, STRIP), x.dtype)
        to_tap, to_window = np.zeros((last, width, STRIP), x.dtype), np.empty((last, width, STRIP), x.dtype)
        offset, to_offset = np.empty((last, STRIP), x.dtype), np.zeros((last, STRIP), x.dtype)
        grad = np.empty(STRIP, x.dtype)
        for c in range(first, last):
            for j in range(STRIP):
                offset[c, j] = bias[c, j]
                for k in range(width):
                    tap[c, k, j] = taps[k, c, j]
        for s in range(len(bounds) - 1):
            start, length = bounds[s], bounds[s + 1] - bounds[s]
            for c in range(first, last):
                for k in range(past_width):
                    for j in range(STRIP):
                        window[c, k + 1, j], to_window[c, k + 1, j] = past[s, k, c, j], 0
            for i in range(length):
                t = start + i
                for c in range(first, last):
                    for j in range(STRIP):
                        for k in range(past_width):
                            window[c, k, j] = window[c, k + 1, j]
                            to_window[c, k, j] = to_window[c, k + 1, j]
                        to_window[c, past_width, j] = 0
                    for j in range(STRIP):
                        window[c, past_width, j], grad[j] = x[t, c, j], grad_y[t, c, j]
                    for j in range(STRIP):
                        total = offset[c, j]
                        for k in range(width):
                            total += tap[c, k, j] * window[c, k, j]
                        half = sigmoid(total)
                        grad[j] *= half * (1 + total * (1 - half))
                    for j in range(STRIP):
                        to_offset[c, j] += grad[j]
                        for k in range(width):
                            to_window[c, k, j] += tap[c, k, j] * grad[j]
                            to_tap[c, k, j] += window[c, k, j] * grad[j]
                    for j in range(STRIP):
                        if i < past_width:
                            grad_past[s, i, c, j] = to_window[c, 0, j]
                        else:
                            grad_x[t - past_width, c, j] = to_window[c, 0, j]
            for k in range(past_width):
                for c in range(first, last):
                    for j in range(STRIP):
                        complete = to_window[c, k + 1, j] + grad_last[s, k, c, j]
                        if length + k < past_width:
                            grad_past[s, length + k, c, j] = complete
                        else:
                            grad_x[start + length + k - past_width, c, j] = complete
        for c in range(first, last):
            for j in range(STRIP):
                grad_bias[c, j] = to_offset[c, j]
                for k in range(width):
                    grad_taps[k, c, j] = to_tap[c, k, j]

    return Loops(forward, backward)
