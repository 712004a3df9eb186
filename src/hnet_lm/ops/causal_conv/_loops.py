"""The compiled loops of the convolution over a range of channels: `(worker, first, last, ...)`.

A ring holds the inputs that the window sees. Position r of a sequence, counted from the first carried input, stands in
row r modulo the width; it begins with what was carried and ends with what is to be carried on. The backward pass has a
second ring with the gradients to the same inputs, which are complete once their input leaves the window.
"""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.native import compiled
from hnet_lm.ops.sigmoid import sigmoid


@no_type_check  # of Python: numba has types of its own
@compiled
def convolve(worker, first, last, x, taps, bias, past, bounds, y, last_inputs):
    width, num_channels = len(taps), last - first
    taps = taps[:, first:last].copy()
    ring = np.empty((width, num_channels), x.dtype)
    total = np.empty(num_channels, x.dtype)
    for s in range(len(bounds) - 1):
        start, end = bounds[s], bounds[s + 1]
        ring[: width - 1] = past[s, :, first:last]
        for t in range(start, end):
            oldest = t - start
            newest = (oldest + width - 1) % width
            for j in range(num_channels):
                ring[newest, j], total[j] = x[t, first + j], bias[first + j]
            for k in range(width):
                row = (oldest + k) % width
                for j in range(num_channels):
                    total[j] += taps[k, j] * ring[row, j]
            for j in range(num_channels):
                y[t, first + j] = total[j] * sigmoid(total[j])
        for k in range(width - 1):
            last_inputs[s, k, first:last] = ring[(end - start + k) % width]


@no_type_check
@compiled
def convolve_backwards(
    worker, first, last, grad_y, grad_last, x, taps, bias, past, bounds, grad_x, grad_taps, grad_bias, grad_past
):
    width, num_channels = len(taps), last - first
    taps = taps[:, first:last].copy()
    ring, grad_ring = np.empty((width, num_channels), x.dtype), np.empty((width, num_channels), x.dtype)
    to_taps = np.zeros((width, num_channels), x.dtype)
    total, grad = np.empty(num_channels, x.dtype), np.empty(num_channels, x.dtype)
    for s in range(len(bounds) - 1):
        start, end = bounds[s], bounds[s + 1]
        ring[: width - 1] = past[s, :, first:last]
        grad_ring[:] = 0
        for t in range(start, end):
            oldest = t - start
            newest = (oldest + width - 1) % width
            for j in range(num_channels):
                ring[newest, j], grad_ring[newest, j], total[j] = x[t, first + j], 0, bias[first + j]
            for k in range(width):
                row = (oldest + k) % width
                for j in range(num_channels):
                    total[j] += taps[k, j] * ring[row, j]
            for j in range(num_channels):
                half = sigmoid(total[j])
                grad[j] = grad_y[t, first + j] * half * (1 + total[j] * (1 - half))
                grad_bias[first + j] += grad[j]
            for k in range(width):
                row = (oldest + k) % width
                for j in range(num_channels):
                    grad_ring[row, j] += taps[k, j] * grad[j]
                    to_taps[k, j] += ring[row, j] * grad[j]
            if oldest < width - 1:
                grad_past[s, oldest, first:last] = grad_ring[oldest % width]
            else:
                grad_x[t - (width - 1), first:last] = grad_ring[oldest % width]
        for k in range(width - 1):
            position = end - start + k
            complete = grad_ring[position % width] + grad_last[s, k, first:last]
            if position < width - 1:
                grad_past[s, position, first:last] = complete
            else:
                grad_x[start + position - (width - 1), first:last] = complete
    grad_taps[:, first:last] = to_taps
