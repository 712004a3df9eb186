"""The compiled loops of the convolution over strips of channels: `(worker, first strip, last strip, ...)`.

A tile, a few positions of a strip, is copied to the loop's own stack together with the earlier positions that its
windows reach; in the backward pass also with the later ones, whose sums it computes again. So tiles are independent.

All matrices are passed as `memory.rows` with num_channels columns. Their rows are positions, taps, or for each sequence
the inputs that are carried.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple, no_type_check

from hnet_lm.ops.compiled.exponential import sigmoid
from hnet_lm.ops.compiled.jit import compiled, inlined
from hnet_lm.ops.compiled.memory import address_of, fill, prefetch, row_slice, scratch
from hnet_lm.ops.compiled.vectors import read_row, write_row

STRIP = 64
"""Channels side by side."""
TILE = 32
"""Positions at a time."""


class Loops(NamedTuple):
    forward: Callable[..., None]
    backward: Callable[..., None]


@no_type_check  # of Python: numba has types of its own
@inlined
def _read(source, first, count, column, lanes, to, to_first):
    """Some rows of a strip."""
    for i in range(count):
        read_row(source, first + i, column, lanes, to.dtype.type(1), to[to_first + i])


@no_type_check
@inlined
def _read_inputs(x, past, s, start, first, count, column, lanes, past_width, inputs):
    """The inputs of a strip at `count` positions from `first` on; before the start those carried in."""
    before = min(max(start - first, 0), count)
    _read(past, (s + 1) * past_width + first - start, before, column, lanes, inputs, 0)
    _read(x, first + before, count - before, column, lanes, inputs, before)


@no_type_check
@inlined
def _ask_for(source, first, count, column, lanes):
    """Fetch some rows of a strip that are read soon: they are far from one another, which no machine foresees."""
    for i in range(count):
        row = row_slice(source, first + i, column, lanes)
        prefetch(address_of(row), lanes * row.itemsize)


@no_type_check
@cache
def loops(width: int) -> Loops:
    """Compiled for a number of taps."""
    past_width = width - 1
    num_rows = TILE + 2 * past_width

    @compiled
    def forward(worker, first, last, one, num_channels, x, taps, bias, past, bounds, y, last_inputs):
        tap, offset = scratch(one, width, STRIP), scratch(one, 1, STRIP)
        inputs, out = scratch(one, num_rows, STRIP), scratch(one, TILE, STRIP)
        fill(inputs, 0)
        fill(tap, 0)
        fill(offset, 0)
        for s in range(len(bounds) - 1):
            start, end = bounds[s], bounds[s + 1]
            for tile in range(start, end, TILE):
                count = min(TILE, end - tile)
                for strip in range(first, last):
                    column = strip * STRIP
                    lanes = min(STRIP, num_channels - column)
                    _read(taps, 0, width, column, lanes, tap, 0)
                    _read(bias, 0, 1, column, lanes, offset, 0)
                    before, seen = tile - past_width, past_width + count
                    _read_inputs(x, past, s, start, before, seen, column, lanes, past_width, inputs)
                    _ask_for(x, tile + count, min(TILE, end - tile - count), column, lanes)
                    for i in range(count):
                        for j in range(STRIP):
                            total = offset[0, j]
                            for k in range(width):
                                total += tap[k, j] * inputs[i + k, j]
                            out[i, j] = total * sigmoid(total)
                    for i in range(count):
                        write_row(out[i], y, tile + i, column, lanes)
            for strip in range(first, last):
                column = strip * STRIP
                lanes = min(STRIP, num_channels - column)
                first_row = end - past_width
                _read_inputs(x, past, s, start, first_row, past_width, column, lanes, past_width, inputs)
                for k in range(past_width):
                    carried = row_slice(last_inputs, s * past_width + k, column, lanes)
                    for j in range(lanes):
                        carried[j] = inputs[k, j]

    @compiled
    def backward(
        worker, first, last, one, num_channels, grad_y, grad_last, x, taps, bias, past, bounds,
        grad_x, grad_taps, grad_bias, grad_past,
    ):  # fmt: skip
        tap, offset = scratch(one, width, STRIP), scratch(one, 1, STRIP)
        to_tap, to_offset = scratch(one, width, STRIP), scratch(one, 1, STRIP)
        inputs, grads, out = scratch(one, num_rows, STRIP), scratch(one, num_rows, STRIP), scratch(one, 1, STRIP)
        zero = one - one
        fill(inputs, 0)
        fill(tap, 0)
        fill(offset, 0)
        for s in range(len(bounds) - 1):
            start, end = bounds[s], bounds[s + 1]
            for tile in range(start, end, TILE):
                count = min(TILE, end - tile)
                seen = min(count + past_width, end - tile)
                for strip in range(first, last):
                    column = strip * STRIP
                    lanes = min(STRIP, num_channels - column)
                    _read(taps, 0, width, column, lanes, tap, 0)
                    _read(bias, 0, 1, column, lanes, offset, 0)
                    before, num = tile - past_width, past_width + seen
                    _read_inputs(x, past, s, start, before, num, column, lanes, past_width, inputs)
                    _ask_for(x, tile + seen, min(TILE, end - tile - seen), column, lanes)
                    _ask_for(grad_y, tile + seen, min(TILE, end - tile - seen), column, lanes)
                    fill(grads, 0)
                    fill(to_tap, 0)
                    fill(to_offset, 0)
                    _read(grad_y, tile, seen, column, lanes, grads, past_width)
                    for i in range(seen):
                        for j in range(STRIP):
                            total = offset[0, j]
                            for k in range(width):
                                total += tap[k, j] * inputs[i + k, j]
                            half = sigmoid(total)
                            grads[past_width + i, j] *= half * (one + total * (one - half))
                    for i in range(count):
                        for j in range(STRIP):
                            to_offset[0, j] += grads[past_width + i, j]
                            for k in range(width):
                                to_tap[k, j] += inputs[i + k, j] * grads[past_width + i, j]
                    _add(to_offset, grad_bias, column, lanes)
                    _add(to_tap, grad_taps, column, lanes)
                    for i in range(0 if tile == start else past_width, count + past_width):
                        t = tile - past_width + i
                        for j in range(STRIP):
                            total = zero
                            for k in range(width):
                                total += tap[k, j] * grads[i + past_width - k, j]
                            out[0, j] = total
                        if t >= end - past_width:
                            carried = row_slice(grad_last, (s + 1) * past_width + t - end, column, lanes)
                            for j in range(lanes):
                                out[0, j] += carried[j]
                        if t >= start:
                            write_row(out[0], grad_x, t, column, lanes)
                        else:
                            carried = row_slice(grad_past, (s + 1) * past_width + t - start, column, lanes)
                            for j in range(lanes):
                                carried[j] = out[0, j]
            if start == end:
                for k in range(s * past_width, (s + 1) * past_width):
                    column = first * STRIP
                    lanes = min(last * STRIP, num_channels) - column
                    carried, back = row_slice(grad_last, k, column, lanes), row_slice(grad_past, k, column, lanes)
                    for j in range(lanes):
                        back[j] = carried[j]

    return Loops(forward, backward)


@no_type_check
@inlined
def _add(sums, to, column, lanes):
    for k in range(len(sums)):
        row = row_slice(to, k, column, lanes)
        for j in range(lanes):
            row[j] += sums[k, j]
