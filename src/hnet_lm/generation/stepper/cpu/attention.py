"""One position of self-attention between its projections: rotate, write to the state's pages, attend to what they hold.

Keys and values of a stream are in pages of one pool, which `PagedKVState` describes. The softmax is computed online:
scores of a few positions at a time, with a running maximum, so a head needs no memory that grows with the context.
"""

import math
from functools import cache
from typing import no_type_check

import numpy as np
import torch
from torch import Tensor

from hnet_lm.generation.stepper.cpu.atomics import load, store
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import WORK_PER_RANGE, Program, Rows, Shape, checked
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.mixers import Attention
from hnet_lm.ops.attention import PagedKVState
from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.exponential import exp
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, address_of, array_at, prefetch, row_slice, scratch
from hnet_lm.ops.rotary import BASE

MAX_HEAD_DIM = 1024
"""For which there is scratch."""
POSITIONS = 32
"""Whose scores are computed at a time."""
PREFETCHED = 8
"""Positions between the key that is read and the one that is fetched: a head's keys are not contiguous."""


def add_attention(
    program: Program, rows: Rows, name: str, mixer: Attention, state: PagedKVState, x: Tensor, total: Tensor
) -> None:
    """Add the mixer's output for x to `total`."""
    dtype, h, p, dim = program.dtype, mixer.num_heads, mixer.head_dim, mixer.rotary_emb_dim
    num_pages, page_numbers = state.pages.shape
    page_positions, max_pages = page_numbers // (2 * h * p), state.table.shape[1]
    if (state.num_heads, state.head_dim) != (h, p) or not page_positions:
        raise ValueError(f"the state of {name} is for {state.num_heads} heads of {state.head_dim}, not {h} of {p}")
    num_seen = checked(f"num_seen of {name}", state.num_seen, (program.max_rows,), torch.int64)
    table = checked(f"the page table of {name}", state.table, (program.max_rows, max_pages), torch.int64)
    page_dtype = torch.bfloat16 if state.pages.dtype == torch.bfloat16 else dtype
    pages = checked(f"the pages of {name}", state.pages, (num_pages, page_numbers), page_dtype)
    frequencies = BASE ** (-torch.arange(0, dim, 2, dtype=dtype) / dim) if dim else torch.zeros(0, dtype=dtype)

    qkv, y = program.scratch("projection", 3 * h * p), program.scratch("mixed", h * p)
    add_product(program, rows, f"{name}.qkv_proj.weight", mixer.qkv_proj, x, qkv)
    layout = (num_pages, page_numbers, page_positions, max_pages, table)
    arguments = (rows.slots, h, p, dim // 2, frequencies, mixer.window_size, qkv, y, num_seen, pages, *layout)
    shape = Shape(items_per_row=h, work=WORK_PER_RANGE)
    program.add(attention_task(dtype, pages.dtype), rows, (*arguments, program.failures), shape)
    program.add(advance_task(), rows, (rows.slots, num_seen), Shape(items_per_row=1))
    add_product(program, rows, f"{name}.out_proj.weight", mixer.out_proj, y, program.scratch("result", h * p), total)


@cache
def attention_task(dtype: torch.dtype, page_dtype: torch.dtype) -> int:
    """Heads of rows: item i is head i % h of row i // h. How many positions were seen is left to `advance_task`.

    Arguments: (slots, h, p, rotary pairs, frequencies, window (-1: none), qkv (t, 3 h p), y (t, h p), num_seen, pages,
    how many there are, numbers of a page, positions of a page, pages per stream, table, failures). Where the table of a
    stream does not lead to pages of the pool, nothing is read or written, and `failures` is set.
    """
    one, page_one = ONE[dtype], ONE[page_dtype]

    @no_type_check  # of Python: numba has types of its own
    def attention(arguments, first, last):
        (
            slots, num_heads, head_dim, num_pairs, frequencies, window, qkv, y, num_seen, pages,
            num_pages, page_size, page_positions, max_pages, table, failures,
        ) = arguments_at(arguments, 16)  # fmt: skip
        d, half_page = num_heads * head_dim, page_positions * num_heads * head_dim
        frequencies = array_at(frequencies, one, (num_pairs,))
        q, k, total = (
            scratch(one, 1, MAX_HEAD_DIM)[0],
            scratch(one, 1, MAX_HEAD_DIM)[0],
            scratch(one, 1, MAX_HEAD_DIM)[0],
        )
        for item in range(first, last):
            row, head = item // num_heads, item % num_heads
            slot, start = load(slots + 8 * row), head * head_dim
            position = load(num_seen + 8 * slot)
            entry, held = position, position + 1
            if window >= 0:
                entry, held = position % (window + 1), min(held, window + 1)
            used_pages = (held + page_positions - 1) // page_positions
            own_table = table + 8 * slot * max_pages
            if not _is_valid(own_table, used_pages, max_pages, num_pages):
                store(failures, 1)
                continue
            page, index = load(own_table + 8 * (entry // page_positions)), entry % page_positions * d + start
            key = row_slice((page_one, pages, page_size), page, index, head_dim)
            value = row_slice((page_one, pages, page_size), page, half_page + index, head_dim)
            new_q = row_slice((one, qkv, 3 * d), row, start, head_dim)
            new_k = row_slice((one, qkv, 3 * d), row, d + start, head_dim)
            new_v = row_slice((one, qkv, 3 * d), row, 2 * d + start, head_dim)
            for j in range(head_dim):
                q[j], k[j], total[j], value[j] = new_q[j], new_k[j], 0, narrowed(new_v[j], value)
            _rotate(q, k, frequencies, type(one)(position))
            for j in range(head_dim):
                key[j] = narrowed(k[j], key)
            highest, weights = type(one)(-np.inf), type(one)(0)
            for index in range(used_pages):
                page, num_positions = load(own_table + 8 * index), min(page_positions, held - index * page_positions)
                keys = address_of(row_slice((page_one, pages, page_size), page, start, head_dim))
                values = address_of(row_slice((page_one, pages, page_size), page, half_page + start, head_dim))
                highest, weights = _attend(
                    q, total, (page_one, keys, d), (page_one, values, d), num_positions, head_dim, highest, weights
                )
            out = row_slice((one, y, d), row, start, head_dim)
            for j in range(head_dim):
                out[j] = total[j] / weights

    return task(attention)


@no_type_check
@compiled
def _is_valid(table, used_pages, max_pages, num_pages):
    is_valid = used_pages <= max_pages
    for index in range(min(used_pages, max_pages)):
        is_valid &= 0 <= load(table + 8 * index) < num_pages
    return is_valid


@no_type_check
@compiled
def _rotate(q, key, frequencies, position):
    half = len(frequencies)
    for j in range(half):
        angle = position * frequencies[j]
        cos, sin = math.cos(angle), math.sin(angle)
        q[j], q[half + j] = q[j] * cos - q[half + j] * sin, q[j] * sin + q[half + j] * cos
        key[j], key[half + j] = key[j] * cos - key[half + j] * sin, key[j] * sin + key[half + j] * cos


@no_type_check
@compiled
def _attend(q, total, keys, values, num_positions, head_dim, highest, weights):
    """Add positions of one page to `total`, the sum of values times weights, exp(score - highest).

    Returns the highest score so far, and the sum of the weights.
    """
    one = q.dtype.type(1)
    factor = q.dtype.type(1 / math.sqrt(head_dim))
    scores = scratch(one, 1, POSITIONS)[0]
    for first in range(0, num_positions, POSITIONS):
        num_scores = min(POSITIONS, num_positions - first)
        before = highest
        for i in range(num_scores):
            key, score = row_slice(keys, first + i, 0, head_dim), one * 0
            prefetch(address_of(row_slice(keys, first + i + PREFETCHED, 0, head_dim)), head_dim * key.itemsize)
            prefetch(address_of(row_slice(values, first + i, 0, head_dim)), head_dim * key.itemsize)
            for j in range(head_dim):
                score += q[j] * widened(key[j])
            scores[i] = score * factor
            highest = max(highest, scores[i])
        kept = exp(before - highest) if weights else one * 0
        weights *= kept
        for j in range(head_dim):
            total[j] *= kept
        for i in range(num_scores):
            weight, value = exp(scores[i] - highest), row_slice(values, first + i, 0, head_dim)
            weights += weight
            for j in range(head_dim):
                total[j] += weight * widened(value[j])
    return highest, weights


@cache
def advance_task() -> int:
    """Add one to the positions seen of each row's stream. Arguments: (slots, num_seen)."""

    @no_type_check
    def advance(arguments, first, last):
        slots, num_seen = arguments_at(arguments, 2)
        for row in range(first, last):
            seen = num_seen + 8 * load(slots + 8 * row)
            store(seen, load(seen) + 1)

    return task(advance)
