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
from hnet_lm.generation.stepper.cpu.layers import add_bias, add_part_norm
from hnet_lm.generation.stepper.cpu.products import add_product
from hnet_lm.generation.stepper.cpu.program import WORK_PER_RANGE, Program, Rows, Shape, checked, float_bits, float_of
from hnet_lm.generation.stepper.cpu.thread_pool import arguments_at, task
from hnet_lm.model.mixers import Attention
from hnet_lm.ops.attention import PagedKVState
from hnet_lm.ops.compiled.bfloat16 import narrowed, widened
from hnet_lm.ops.compiled.exponential import exp
from hnet_lm.ops.compiled.jit import compiled
from hnet_lm.ops.compiled.memory import ONE, address_of, array_at, prefetch, row_slice, scratch

MAX_HEAD_DIM = 1024
"""For which there is scratch."""
POSITIONS = 32
"""Whose scores are computed at a time."""
PREFETCHED = 8
"""Positions between the key that is read and the one that is fetched: a head's keys are not contiguous."""


def add_attention(
    program: Program, rows: Rows, name: str, mixer: Attention, state: PagedKVState, x: Tensor, total: Tensor | None
) -> Tensor:
    """The mixer's output for x, in scratch memory; also added to `total` where that is given."""
    dtype, h, g, p, dim = program.dtype, mixer.num_heads, mixer.num_kv_heads, mixer.head_dim, mixer.rotary_emb_dim
    num_pages, page_numbers = state.pages.shape
    page_positions, max_pages = page_numbers // (2 * g * p), state.table.shape[1]
    if (state.num_heads, state.head_dim) != (g, p) or not page_positions:
        raise ValueError(f"the state of {name} is for {state.num_heads} heads of {state.head_dim}, not {g} of {p}")
    num_seen = checked(f"num_seen of {name}", state.num_seen, (program.max_rows,), torch.int64)
    table = checked(f"the page table of {name}", state.table, (program.max_rows, max_pages), torch.int64)
    page_dtype = torch.bfloat16 if state.pages.dtype == torch.bfloat16 else dtype
    pages = checked(f"the pages of {name}", state.pages, (num_pages, page_numbers), page_dtype)
    if mixer.rotary_frequencies is None:  # to the last bit as the forward has them
        frequencies = mixer.rotary_base ** (-torch.arange(0, dim, 2, dtype=dtype) / max(dim, 1))
    else:
        frequencies = torch.tensor(mixer.rotary_frequencies, dtype=dtype)

    width = (h + 2 * g) * p
    qkv, y = program.scratch("projection", width), program.scratch("mixed", h * p)
    add_product(program, rows, f"{name}.qkv_proj.weight", mixer.qkv_proj, x, qkv)
    if mixer.qkv_proj.bias is not None:
        add_bias(program, rows, f"{name}.qkv_proj.bias", mixer.qkv_proj.bias, qkv)
    if mixer.q_norm is not None and mixer.k_norm is not None:
        add_part_norm(program, rows, f"{name}.q_norm", mixer.q_norm, qkv, 0, h * p)
        add_part_norm(program, rows, f"{name}.k_norm", mixer.k_norm, qkv, h * p, g * p)
    rotation = (dim // 2, frequencies, float_bits(mixer.rotary_magnitude))
    layout = (num_pages, page_numbers, page_positions, max_pages, table)
    arguments = (rows.slots, h, g, p, *rotation, mixer.window_size, qkv, y, num_seen, pages, *layout)
    shape = Shape(items_per_row=g, work=WORK_PER_RANGE)
    program.add(attention_task(dtype, pages.dtype), rows, (*arguments, program.failures), shape)
    program.add(advance_task(), rows, (rows.slots, num_seen), Shape(items_per_row=1))
    result = program.scratch("result", x.shape[1])
    add_product(program, rows, f"{name}.out_proj.weight", mixer.out_proj, y, result, total)
    return result


@cache
def attention_task(dtype: torch.dtype, page_dtype: torch.dtype) -> int:
    """Heads of keys of rows, with the heads of queries that share each: item i is head i % g of row i // g. How many
    positions were seen is left to `advance_task`.

    Arguments: (slots, h, g, p, rotary pairs, frequencies, magnitude as float64 bits, window (-1: none),
    qkv (t, (h + 2 g) p), y (t, h p), num_seen, pages, how many there are, numbers of a page, positions of a page, pages
    per stream, table, failures). Where the table of a
    stream does not lead to pages of the pool, nothing is read or written, and `failures` is set.
    """
    one, page_one = ONE[dtype], ONE[page_dtype]

    @no_type_check  # of Python: numba has types of its own
    def attention(arguments, first, last):
        (
            slots, num_heads, num_kv_heads, head_dim, num_pairs, frequencies, magnitude, window, qkv, y, num_seen,
            pages, num_pages, page_size, page_positions, max_pages, table, failures,
        ) = arguments_at(arguments, 18)  # fmt: skip
        d, d_kv, group = num_heads * head_dim, num_kv_heads * head_dim, num_heads // num_kv_heads
        width, half_page = d + 2 * d_kv, page_positions * d_kv
        frequencies, magnitude = array_at(frequencies, one, (num_pairs,)), type(one)(float_of(magnitude))
        rotated, total = scratch(one, 1, MAX_HEAD_DIM)[0], scratch(one, 1, MAX_HEAD_DIM)[0]
        for item in range(first, last):
            row, head = item // num_kv_heads, item % num_kv_heads
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
            page, index = load(own_table + 8 * (entry // page_positions)), entry % page_positions * d_kv + start
            key = row_slice((page_one, pages, page_size), page, index, head_dim)
            value = row_slice((page_one, pages, page_size), page, half_page + index, head_dim)
            new_k = row_slice((one, qkv, width), row, d + start, head_dim)
            new_v = row_slice((one, qkv, width), row, d + d_kv + start, head_dim)
            for j in range(head_dim):
                rotated[j], value[j] = new_k[j], narrowed(new_v[j], value)
            _rotate(rotated, frequencies, type(one)(position), magnitude)
            for j in range(head_dim):
                key[j] = narrowed(rotated[j], key)
            for query in range(head * group, (head + 1) * group):
                new_q = row_slice((one, qkv, width), row, query * head_dim, head_dim)
                for j in range(head_dim):
                    rotated[j], total[j] = new_q[j], 0
                _rotate(rotated, frequencies, type(one)(position), magnitude)
                highest, weights = type(one)(-np.inf), type(one)(0)
                for index in range(used_pages):
                    page = load(own_table + 8 * index)
                    num_positions = min(page_positions, held - index * page_positions)
                    first_key = address_of(row_slice((page_one, pages, page_size), page, start, head_dim))
                    first_value = address_of(row_slice((page_one, pages, page_size), page, half_page + start, head_dim))
                    keys, values = (page_one, first_key, d_kv), (page_one, first_value, d_kv)
                    highest, weights = _attend(rotated, total, keys, values, num_positions, head_dim, highest, weights)
                out = row_slice((one, y, d), row, query * head_dim, head_dim)
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
def _rotate(x, frequencies, position, magnitude):
    half = len(frequencies)
    for j in range(half):
        angle = position * frequencies[j]
        cos, sin = magnitude * math.cos(angle), magnitude * math.sin(angle)
        x[j], x[half + j] = x[j] * cos - x[half + j] * sin, x[j] * sin + x[half + j] * cos


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
