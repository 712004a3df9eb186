"""The compiled loops of the scan: a range of heads, one after the other, over piece after piece of the sequences.

A piece is short enough for the caches to hold what all heads read of it and the states between. Where a sequence has
several pieces, each continues from the end of the one before: `owner` is the sequence of each piece, and `starts` the
states at the start of the pieces that are not their sequence's first.

Within a piece, positions are taken `TILE` at a time: what they need is read into the loop's own stack, and the rest are
products of small matrices (`_scan`), computed in blocks of `ROWS` rows and one vector that stay in registers.

x, y, B, C and their gradients are passed as `memory.rows`, one row per position; the heads of x and y are side by side.
"""

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np

from hnet_lm.ops.compiled.jit import compiled, expanded, inlined
from hnet_lm.ops.compiled.memory import address_of, fill, row_slice, scratch
from hnet_lm.ops.compiled.vectors import (
    lanes_of,
    load_vector,
    product_add,
    read_row,
    repeated,
    scaled,
    scaled_add,
    store_vector,
    write_row,
)

ROWS = 4
"""Rows of a block of the state."""
TILE = 16
"""Positions at a time. After each tile the product of state and gradient is computed afresh instead of updated."""


class Loops(NamedTuple):
    """`(worker, first head, last head, ...)`; the last arguments are written to."""

    forward: Callable[..., None]
    to_inputs: Callable[..., None]
    """Gradients to x, dt (without its part in the decay), D and the initial state. Lanes run over x.

    The argument for the gradient to the initial state enters holding that to the final one, in `to_projections` too.
    """
    to_projections: Callable[..., None]
    """Gradients to B and C (each worker's part) and to the logarithm of the decay. Lanes run over B and C."""


@no_type_check  # of Python: numba has types of its own
@inlined
def _scan(num, state, decay, rows, lanes, probe, total):
    """state = decay_t state + rows_t lanes_t^T; total_t += state^T probe_t, for `num` positions.

    By products of matrices: with a_tu the product of the decays behind u up to t, and a_t that of all up to t,

        total_t += state^T (a_t probe_t) + sum_{u<=t} a_tu (probe_t rows_u) lanes_u
        state = a_num state + sum_u (a_num,u rows_u) lanes_u^T

    The state is (groups of lanes, rows, lanes) with the first two axes flattened. `rows` and `probe` are overwritten.
    """
    one, num_rows, width, num_lanes = state.dtype.type(1), rows.shape[1], lanes.shape[1], state.shape[1]
    score, since = scratch(one, TILE, TILE), scratch(one, 1, TILE)[0]
    whole = one
    for t in range(num):
        whole *= decay[t]
        since[t] = one
        for u in range(t):
            since[u] *= decay[t]
        for u in range(t + 1):
            score[t, u] = since[u] * _dot(probe[t], rows[u], num_rows)
        for i in range(num_rows):
            probe[t, i] *= whole
    for t in range(num):
        for i in range(num_rows):
            rows[t, i] *= since[t]
    for group in range(width // num_lanes):
        block = one, address_of(state[group * num_rows]), num_lanes
        column = group * num_lanes * state.itemsize
        inputs = one, address_of(lanes) + column, width
        for t in range(0, num, ROWS):
            sums = one, address_of(total[t]) + column, width
            _add_product(sums, one, (one, address_of(probe[t]), num_rows), 1, block, num_rows)
            _add_product(sums, one, (one, address_of(score[t]), TILE), 1, inputs, t)
            for k in range(t, min(t + ROWS, num)):
                sum_of_row = row_slice(sums, k - t, 0, num_lanes)
                new_sum = load_vector(sum_of_row)
                for u in range(t, k + 1):
                    lane = load_vector(row_slice(inputs, u, 0, num_lanes))
                    new_sum = scaled_add(new_sum, row_slice((one, address_of(score), TILE), k, u, 1)[0], lane)
                store_vector(new_sum, sum_of_row)
        for i in range(0, num_rows, ROWS):
            sums = one, address_of(state[group * num_rows + i]), num_lanes
            left = one, address_of(rows) + i * state.itemsize, 1
            _add_product(sums, whole, left, num_rows, inputs, num)


@no_type_check
@inlined
def _add_product(sums, factor, left, step, right, count):
    """sums_i = factor sums_i + sum_k left_ik right_k, of `ROWS` rows and one vector; left_ik and the next are `step`
    apart."""
    num_lanes = lanes_of(factor)
    to_a, to_b = row_slice(sums, 0, 0, num_lanes), row_slice(sums, 1, 0, num_lanes)
    to_c, to_d = row_slice(sums, 2, 0, num_lanes), row_slice(sums, 3, 0, num_lanes)
    a, b = scaled(factor, load_vector(to_a)), scaled(factor, load_vector(to_b))
    c, d = scaled(factor, load_vector(to_c)), scaled(factor, load_vector(to_d))
    for k in range(count):
        vector = load_vector(row_slice(right, k, 0, num_lanes))
        a = scaled_add(a, row_slice(left, 0, k * step, 1)[0], vector)
        b = scaled_add(b, row_slice(left, 1, k * step, 1)[0], vector)
        c = scaled_add(c, row_slice(left, 2, k * step, 1)[0], vector)
        d = scaled_add(d, row_slice(left, 3, k * step, 1)[0], vector)
    store_vector(a, to_a)
    store_vector(b, to_b)
    store_vector(c, to_c)
    store_vector(d, to_d)


@no_type_check
@inlined
def _dot(a, b, length):
    total = a.dtype.type(0)
    for j in range(length):
        total += a[j] * b[j]
    return total


@no_type_check
@cache
def loops(num_states: int, head_dim: int, num_lanes: int) -> Loops:
    """Compiled for the sizes of the state and of a vector."""
    rows_of_states, rows_of_x = (size + -size % ROWS for size in (num_states, head_dim))
    lanes_of_states, lanes_of_x = (size + -size % num_lanes for size in (num_states, head_dim))
    size_over_x, size_over_states = rows_of_states * lanes_of_x // num_lanes, rows_of_x * lanes_of_states // num_lanes

    @compiled
    def forward(worker, first, last, x, dt, A, B, C, D, bounds, owner, y, starts, final):
        one = dt.dtype.type(1)
        state, decay = scratch(one, size_over_x, num_lanes), scratch(one, 1, TILE)[0]
        value, total = scratch(one, TILE, lanes_of_x), scratch(one, TILE, lanes_of_x)
        row, probe = scratch(one, TILE, rows_of_states), scratch(one, TILE, rows_of_states)
        for zeroed in (state, value, total, row, probe):
            fill(zeroed, 0)
        for piece in range(len(owner)):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(num_states):
                    for j in range(head_dim):
                        number = final[s, i, head, j]
                        state[j // num_lanes * rows_of_states + i, j % num_lanes] = number
                        if goes_on:
                            starts[piece - s - 1, i, head, j] = number
                for tile in range(start, end, TILE):
                    num = min(TILE, end - tile)
                    for k in range(num):
                        t = tile + k
                        decay[k] = math.exp(dt[t, head] * A[head])
                        read_row(x, t, column, head_dim, one, value[k])
                        read_row(B, t, 0, num_states, dt[t, head], row[k])
                        read_row(C, t, 0, num_states, one, probe[k])
                        for j in range(head_dim):
                            total[k, j] = D[head] * value[k, j]
                    _scan(num, state, decay, row, value, probe, total)
                    for k in range(num):
                        write_row(total[k], y, tile + k, column, head_dim)
                for i in range(num_states):
                    for j in range(head_dim):
                        final[s, i, head, j] = state[j // num_lanes * rows_of_states + i, j % num_lanes]

    @compiled
    def to_inputs(worker, first, last, grad_y, x, dt, A, B, C, D, bounds, owner, grad_x, grad_dt, grad_D, grad_initial):
        one = dt.dtype.type(1)
        grad, decay = scratch(one, size_over_x, num_lanes), scratch(one, 1, TILE)[0]
        to_y, total = scratch(one, TILE, lanes_of_x), scratch(one, TILE, lanes_of_x)
        row, probe = scratch(one, TILE, rows_of_states), scratch(one, TILE, rows_of_states)
        value = scratch(one, 1, lanes_of_x)[0]
        for zeroed in (grad, to_y, row, probe):
            fill(zeroed, 0)
        for piece in range(len(owner) - 1, -1, -1):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            for head in range(first, last):
                column, skipped = head * head_dim, one * 0
                for i in range(num_states):
                    for j in range(head_dim):
                        grad[j // num_lanes * rows_of_states + i, j % num_lanes] = grad_initial[s, i, head, j]
                decay_after = one
                for tile in range(end, start, -TILE):
                    num = min(TILE, tile - start)
                    for k in range(num):
                        t = tile - 1 - k
                        decay[k], decay_after = decay_after, math.exp(dt[t, head] * A[head])
                        read_row(grad_y, t, column, head_dim, one, to_y[k])
                        read_row(C, t, 0, num_states, one, row[k])
                        read_row(B, t, 0, num_states, one, probe[k])
                    fill(total, 0)
                    _scan(num, grad, decay, row, to_y, probe, total)
                    for k in range(num):
                        t = tile - 1 - k
                        read_row(x, t, column, head_dim, one, value)
                        grad_dt[t, head] = _dot(total[k], value, head_dim)
                        skipped += _dot(to_y[k], value, head_dim)
                        for j in range(head_dim):
                            value[j] = dt[t, head] * total[k, j] + D[head] * to_y[k, j]
                        write_row(value, grad_x, t, column, head_dim)
                for i in range(num_states):
                    for j in range(head_dim):
                        number = grad[j // num_lanes * rows_of_states + i, j % num_lanes]
                        grad_initial[s, i, head, j] = decay_after * number
                grad_D[head] += skipped

    @compiled
    def to_projections(
        worker, first, last, grad_y, x, dt, A, B, C, bounds, owner, initial, starts, grad_B, grad_C, grad_log_decay,
        grad_initial,
    ):  # fmt: skip
        one = dt.dtype.type(1)
        longest = 0
        for piece in range(len(owner)):
            longest = max(longest, bounds[piece + 1] - bounds[piece])
        states = np.empty(((longest + TILE - 1) // TILE, size_over_states, num_lanes), dt.dtype)
        gained = np.empty(longest, np.float64)
        state = scratch(one, size_over_states, num_lanes)
        decay, own = scratch(one, 1, TILE)[0], scratch(one, 1, TILE)[0]
        lane, total = scratch(one, TILE, lanes_of_states), scratch(one, TILE, lanes_of_states)
        other = scratch(one, 1, lanes_of_states)[0]
        inputs, to_y = scratch(one, TILE, rows_of_x), scratch(one, TILE, rows_of_x)
        for zeroed in (state, lane, inputs, to_y):
            fill(zeroed, 0)
        nothing = np.finfo(dt.dtype).eps ** 2
        for piece in range(len(owner) - 1, -1, -1):
            s, start, end = owner[piece], bounds[piece], bounds[piece + 1]
            goes_on = piece > 0 and owner[piece - 1] == s
            for head in range(first, last):
                column = head * head_dim
                for i in range(head_dim):
                    for j in range(num_states):
                        number = starts[piece - s - 1, j, head, i] if goes_on else initial[s, j, head, i]
                        state[j // num_lanes * rows_of_x + i, j % num_lanes] = number
                for tile in range(start, end, TILE):
                    num = min(TILE, end - tile)
                    for k in range(num):
                        t = tile + k
                        decay[k] = math.exp(dt[t, head] * A[head])
                        read_row(x, t, column, head_dim, dt[t, head], inputs[k])
                        read_row(grad_y, t, column, head_dim, one, to_y[k])
                        read_row(B, t, 0, num_states, one, lane[k])
                    fill(total, 0)
                    _scan(num, state, decay, inputs, lane, to_y, total)
                    for k in range(num):
                        read_row(C, tile + k, 0, num_states, one, other)
                        gained[tile + k - start] = _dot(total[k], other, num_states)
                        for j in range(num_states):
                            grad_C[worker, tile + k, j] += total[k, j]
                    _copy(state, states[(tile - start) // TILE])

                grad = state  # its memory is free now
                for i in range(head_dim):
                    for j in range(num_states):
                        grad[j // num_lanes * rows_of_x + i, j % num_lanes] = grad_initial[s, j, head, i]
                decay_after = one
                for tile in range(start + (end - start - 1) // TILE * TILE, start - 1, -TILE):
                    num = min(TILE, end - tile)
                    # The product of the last position's gradient with the state there: what its decay multiplies later
                    to_decay = decay_after * _product(grad, states[(tile - start) // TILE], num_lanes)
                    for k in range(num):
                        t = tile + num - 1 - k
                        own[k] = math.exp(dt[t, head] * A[head])
                        decay[k], decay_after = decay_after, own[k]
                        read_row(x, t, column, head_dim, dt[t, head], inputs[k])
                        read_row(grad_y, t, column, head_dim, one, to_y[k])
                        read_row(C, t, 0, num_states, one, lane[k])
                    fill(total, 0)
                    _scan(num, grad, decay, to_y, lane, inputs, total)
                    for k in range(num):
                        t = tile + num - 1 - k
                        read_row(B, t, 0, num_states, one, other)
                        loss = _dot(total[k], other, num_states)
                        for j in range(num_states):
                            grad_B[worker, t, j] += total[k, j]
                        to_decay = to_decay + gained[t - start] - loss if own[k] > nothing else 0.0
                        grad_log_decay[t, head] = to_decay
                if goes_on:
                    for i in range(head_dim):
                        for j in range(num_states):
                            number = grad[j // num_lanes * rows_of_x + i, j % num_lanes]
                            grad_initial[s, j, head, i] = decay_after * number

    return Loops(forward, to_inputs, to_projections)


@no_type_check
@inlined
def _copy(source, to):
    for i in range(source.shape[0]):
        for j in range(source.shape[1]):
            to[i, j] = source[i, j]


@no_type_check
@expanded
def _product(a, b, num_lanes):
    """The sum of a * b, in float64 but for a few numbers at a time."""
    part, total = scratch(a.dtype.type(1), 1, num_lanes)[0], 0.0
    for i in range(0, a.shape[0], ROWS):
        sums = repeated(a.dtype.type(0))
        for k in range(ROWS):
            sums = product_add(sums, load_vector(a[i + k]), load_vector(b[i + k]))
        store_vector(sums, part)
        for j in range(num_lanes):
            total += part[j]
    return total
