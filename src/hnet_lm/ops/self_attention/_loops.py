"""The compiled loops of one position a sequence: of each head, rotate, add to the state, attend to what it holds."""

import math
from typing import no_type_check

import numpy as np

from hnet_lm.ops.exponential import exp
from hnet_lm.ops.linear._loops import multiply_at
from hnet_lm.ops.native import START, at, compiled
from hnet_lm.ops.rms_norm._loops import normed


@no_type_check  # of Python: numba has types of its own
@compiled
def attend(first, last, qkv, frequencies, window, slots, seen, keys, values, y):
    """Items first .. last, h a sequence: sequence item // h, head item % h. How much was seen is not counted on."""
    num_entries, num_heads, head_dim = keys.shape[1:]
    half, d = len(frequencies), num_heads * head_dim
    real = qkv.dtype.type
    factor = real(1 / math.sqrt(head_dim))
    q, scores = np.empty(head_dim, qkv.dtype), np.empty(num_entries, qkv.dtype)
    for item in range(first, last):
        row, head = item // num_heads, item % num_heads
        slot, start = slots[row], head * head_dim
        position = seen[slot]
        entry = position if window < 0 else position % (window + 1)
        key, value = keys[slot, entry, head], values[slot, entry, head]
        for j in range(head_dim):
            q[j] = qkv[row, start + j]
            key[j] = qkv[row, d + start + j]
            value[j] = qkv[row, 2 * d + start + j]
        for j in range(half):
            angle = real(position) * frequencies[j]
            cos, sin = math.cos(angle), math.sin(angle)
            q[j], q[half + j] = q[j] * cos - q[half + j] * sin, q[j] * sin + q[half + j] * cos
            key[j], key[half + j] = key[j] * cos - key[half + j] * sin, key[j] * sin + key[half + j] * cos

        held = position + 1 if window < 0 else min(position + 1, window + 1)
        highest = real(-np.inf)
        for i in range(held):
            score = real(0)
            for j in range(head_dim):
                score += q[j] * keys[slot, i, head, j]
            scores[i] = score * factor
            highest = max(highest, scores[i])
        total = real(0)
        for i in range(held):
            scores[i] = exp(scores[i] - highest)
            total += scores[i]
        for j in range(head_dim):
            q[j] = 0
        for i in range(held):
            for j in range(head_dim):
                q[j] += scores[i] * values[slot, i, head, j]
        for j in range(head_dim):
            y[row, start + j] = q[j] / total


@no_type_check
@compiled
def _attend_at(first, last, sizes, one, qkv, frequencies, slots, seen, keys, values, y):
    """The same with states at addresses."""
    num_rows, num_heads, head_dim, half, num_slots, num_entries, window = sizes
    attend(
        first,
        last,
        qkv,
        at(frequencies, one, (half,)),
        window,
        at(slots, np.int64(1), (num_rows,)),
        at(seen, np.int64(1), (num_slots,)),
        at(keys, one, (num_slots, num_entries, num_heads, head_dim)),
        at(values, one, (num_slots, num_entries, num_heads, head_dim)),
        y,
    )


@no_type_check
@compiled
def inner(worker, first, last, sizes, one, qkv, frequencies, slots, seen, keys, values, y):
    """The same with all at addresses."""
    d = sizes[1] * sizes[2]
    qkv, y = at(qkv, one, (sizes[0], 3 * d)), at(y, one, (sizes[0], d))
    _attend_at(first, last, sizes, one, qkv, frequencies, slots, seen, keys, values, y)


@no_type_check
@compiled
def whole(
    sizes, one, x, pre_norm, eps, in_one, qkv_proj, in_scale, out_one, out_proj, out_scale,
    frequencies, slots, seen, keys, values, out,
):  # fmt: skip
    """The same between both projections, behind a norm; at 0 there is no norm, or no scale."""
    num_rows, num_heads, head_dim = sizes[:3]
    d = num_heads * head_dim
    qkv, y = np.empty((num_rows, 3 * d), type(one)), np.empty((num_rows, d), type(one))
    multiply_at(START, 3 * d, normed(at(x, one, (num_rows, d)), pre_norm, eps), in_one, qkv_proj, in_scale, qkv)
    _attend_at(START, num_rows * num_heads, sizes, one, qkv, frequencies, slots, seen, keys, values, y)
    multiply_at(START, d, y, out_one, out_proj, out_scale, at(out, one, (num_rows, d)))
