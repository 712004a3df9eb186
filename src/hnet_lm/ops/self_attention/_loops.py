"""The compiled loops of one position a sequence: of each head, rotate, add to the state, attend to what it holds."""

import math
from functools import cache
from typing import no_type_check

import numpy as np
import torch

from hnet_lm.ops.exponential import exp
from hnet_lm.ops.linear._loops import share_product
from hnet_lm.ops.native import ONE, at, compiled, place
from hnet_lm.ops.one_call import from_bits, hand_over
from hnet_lm.ops.rms_norm._loops import normed
from hnet_lm.ops.team import job, numbers, share

NUMBERS_A_TURN = 1 << 12
"""Of keys: a microsecond or so."""


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


@cache
def attend_job(dtype: torch.dtype) -> int:
    """The heads of some sequences; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check
    def attend_some(arguments, first, last):
        (
            num_rows, num_heads, head_dim, half, num_slots, num_entries, window,
            qkv, y, frequencies, slots, seen, keys, values,
        ) = numbers(arguments, 14)  # fmt: skip
        d = num_heads * head_dim
        attend(
            first,
            last,
            at(qkv, one, (num_rows, 3 * d)),
            at(frequencies, one, (half,)),
            window,
            at(slots, np.int64(1), (num_rows,)),
            at(seen, np.int64(1), (num_slots,)),
            at(keys, one, (num_slots, num_entries, num_heads, head_dim)),
            at(values, one, (num_slots, num_entries, num_heads, head_dim)),
            at(y, one, (num_rows, d)),
        )

    return attend_some


@cache
def attention_job(dtype: torch.dtype) -> int:
    """All of the mixer; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check
    def mixer(arguments, team, _):
        (
            x, out, norm, norm_eps, multiply_in, qkv_proj, in_scale, multiply_out, out_proj, out_scale, attend_some,
            num_rows, num_heads, head_dim, half, num_slots, num_entries, window,
            frequencies, slots, seen, keys, values,
        ) = numbers(arguments, 23)  # fmt: skip
        sizes = (num_rows, num_heads, head_dim, half, num_slots, num_entries, window)
        d = num_heads * head_dim
        qkv = np.empty((num_rows, 3 * d), type(one))
        y, result = np.empty((num_rows, d), type(one)), np.empty((num_rows, d), type(one))
        rows = normed(at(x, one, (num_rows, d)), norm, from_bits(norm_eps, one))
        share_product(team, multiply_in, rows, qkv_proj, in_scale, qkv)
        _share_heads(team, attend_some, sizes, qkv, (frequencies, slots, seen, keys, values), y)
        share_product(team, multiply_out, y, out_proj, out_scale, result)
        hand_over(result, x, out)
        numbers_seen = at(seen, np.int64(1), (num_slots,))
        for slot in at(slots, np.int64(1), (num_rows,)):
            numbers_seen[slot] += 1

    return mixer


@no_type_check
@compiled
def _share_heads(team, attend_some, sizes, qkv, held, y):
    num_rows, num_heads, head_dim, _, _, num_entries, _ = sizes
    heads_a_turn = 1 + NUMBERS_A_TURN // (head_dim * num_entries)
    share(team, attend_some, (*sizes, place(qkv), place(y), *held), num_rows * num_heads, heads_a_turn)
