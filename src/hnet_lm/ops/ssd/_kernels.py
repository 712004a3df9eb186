"""The kernels of the blocked scan. A block is a few tiles of positions; a program has one tile, or one state.

Three of the four come in two directions of time, since the gradient runs the same sums backwards. With u = dt x, L the
decay from one position to a later one, S the state before a block and G the gradient to the state behind it:

    block_states           S' = sum_j L B_j u_j^T             G' = sum_i L C_i dy_i^T
    outputs                y_i = sum_{j<=i} L (C_i B_j) u_j + L C_i S     du_j = sum_{i>=j} L (C_i B_j) dy_i + L B_j G
    projection_gradients   dC_i = sum_{j<=i} K_ij B_j + L dy_i S^T        dB_j = sum_{i>=j} K_ij C_i + L u_j G^T
    score_gradients        K_ij = L (dy_i u_j), summed over heads, as B and C are

Decays are sums of logarithms from the ends of a tile, added up from tile to tile, and never a difference of two long
sums: a position that forgets everything takes no digits from those behind it.
"""

from typing import no_type_check

import triton
import triton.language as tl

from hnet_lm.ops.kernels.launch import tuned

TILE = 64
"""Positions of a tile."""


@no_type_check  # of Python: Triton has types of its own
@triton.jit
def _log_decays(dt_ptr, A, first, tile, num_rows, head, num_heads, TILE: tl.constexpr):
    """dt of a tile, and the sums of dt A up to and with each position, and behind it."""
    index = tl.arange(0, TILE)
    within = tile * TILE + index
    own = dt_ptr + (first + within) * num_heads + head
    dt = tl.load(own, mask=within < num_rows, other=0)
    after = tl.load(own + num_heads, mask=(index + 1 < TILE) & (within + 1 < num_rows), other=0)
    return dt, tl.cumsum(dt * A, 0), tl.cumsum(after * A, 0, reverse=True)


@no_type_check
@triton.jit
def _tile(ptr, first, tile, num_rows, stride, num_columns, TILE: tl.constexpr, COLUMNS: tl.constexpr):
    """The rows of a tile, and zeros behind the last one of its block."""
    within = tile * TILE + tl.arange(0, TILE)[:, None]
    column = tl.arange(0, COLUMNS)[None, :]
    inside = (within < num_rows) & (column < num_columns)
    return tl.load(ptr + (first + within) * stride + column, mask=inside, other=0)


@no_type_check
@triton.jit
def _state(ptr, block, head, num_heads, num_states, head_dim, N: tl.constexpr, P: tl.constexpr):
    n, p = tl.arange(0, N)[:, None], tl.arange(0, P)[None, :]
    at = ptr + (block * num_heads + head) * num_states * head_dim + n * head_dim + p
    return tl.load(at, mask=(n < num_states) & (p < head_dim), other=0)


@no_type_check
@triton.jit
def _sum_of_tiles(totals_ptr, block, head, num_heads, low, high, TILES: tl.constexpr):
    """The log decay over the tiles low .. high - 1 of a block."""
    tile = tl.arange(0, TILES)
    totals = tl.load(totals_ptr + (block * TILES + tile) * num_heads + head)
    return tl.sum(tl.where((tile >= low) & (tile < high), totals, 0), 0)


@tuned((4, 2), (4, 3), (8, 3))
@triton.jit
def block_states(
    left_ptr, rows_ptr, dt_ptr, A_ptr, first_row_ptr, num_rows_ptr, states_ptr, totals_ptr, decay_ptr,
    num_heads, head_dim, num_states, left_stride, rows_stride,
    REVERSE: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """What a block adds to the state of a head, and its decay; in reverse what it adds to the gradient before it."""
    block, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block).to(tl.int32)
    if num_rows == 0:
        return
    num_tiles = (num_rows + TILE - 1) // TILE
    A = tl.load(A_ptr + head)
    between = A * 0
    state = tl.zeros([N, P], dtype=A.dtype)
    for i in range(num_tiles):
        tile = i if REVERSE else num_tiles - 1 - i
        dt, until, after = _log_decays(dt_ptr, A, first, tile, num_rows, head, num_heads, TILE)
        left = _tile(left_ptr, first, tile, num_rows, left_stride, num_states, TILE, N)
        rows = _tile(rows_ptr + head * head_dim, first, tile, num_rows, rows_stride, head_dim, TILE, P)
        weight = tl.exp(until + between) if REVERSE else tl.exp(after + between) * dt
        weighed = (rows * weight[:, None]).to(left.dtype)
        state = tl.dot(tl.trans(left), weighed, state, input_precision=PRECISION, out_dtype=A.dtype)
        total = tl.sum(dt * A, 0)
        between += total
        if not REVERSE:
            tl.store(totals_ptr + (block * TILES + tile) * num_heads + head, total)
    if not REVERSE:
        for tile in range(num_tiles, TILES):
            tl.store(totals_ptr + (block * TILES + tile) * num_heads + head, 0)
        tl.store(decay_ptr + block * num_heads + head, tl.exp(between))
    n, p = tl.arange(0, N)[:, None], tl.arange(0, P)[None, :]
    at = states_ptr + (block * num_heads + head) * num_states * head_dim + n * head_dim + p
    tl.store(at, state, mask=(n < num_states) & (p < head_dim))


@tuned((4, 1), (4, 2), (8, 3))
@triton.jit
def outputs(
    left_ptr, right_ptr, rows_ptr, dt_ptr, A_ptr, D_ptr, totals_ptr, state_ptr, x_ptr, first_row_ptr, num_rows_ptr,
    out_ptr, grad_dt_ptr, grad_D_ptr, num_heads, head_dim, num_states, left_stride, right_stride, rows_stride, x_stride,
    out_stride,
    REVERSE: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """y of a tile and head; in reverse the gradient to x, and its parts of those to dt and D."""
    block, own, head = tl.program_id(0).to(tl.int64) // TILES, tl.program_id(0) % TILES, tl.program_id(1)
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block).to(tl.int32)
    A = tl.load(A_ptr + head)
    to_D = grad_D_ptr + tl.program_id(0).to(tl.int64) * num_heads + head
    if own * TILE >= num_rows:
        if REVERSE:
            tl.store(to_D, 0)
        return
    wide: tl.constexpr = A.dtype
    index = tl.arange(0, TILE)
    left = _tile(left_ptr, first, own, num_rows, left_stride, num_states, TILE, N)
    if REVERSE:
        between = _sum_of_tiles(totals_ptr, block, head, num_heads, own + 1, TILES, TILES)
    else:
        between = _sum_of_tiles(totals_ptr, block, head, num_heads, 0, own, TILES)
    state = _state(state_ptr, block, head, num_heads, num_states, head_dim, N, P).to(left.dtype)
    result = tl.dot(left, state, input_precision=PRECISION, out_dtype=wide) * tl.exp(between)
    between = A * 0
    num_others = (num_rows + TILE - 1) // TILE - 1 - own if REVERSE else own
    for i in range(num_others):
        other = own + 1 + i if REVERSE else own - 1 - i
        other_dt, other_until, other_after = _log_decays(dt_ptr, A, first, other, num_rows, head, num_heads, TILE)
        right = _tile(right_ptr, first, other, num_rows, right_stride, num_states, TILE, N)
        scores = tl.dot(left, tl.trans(right), input_precision=PRECISION, out_dtype=wide)
        weight = tl.exp(other_until + between) if REVERSE else tl.exp(other_after + between) * other_dt
        scores *= weight[None, :]
        rows = _tile(rows_ptr + head * head_dim, first, other, num_rows, rows_stride, head_dim, TILE, P)
        result = tl.dot(scores.to(rows.dtype), rows, result, input_precision=PRECISION, out_dtype=wide)
        between += tl.sum(other_dt * A, 0)

    dt, until, after = _log_decays(dt_ptr, A, first, own, num_rows, head, num_heads, TILE)
    decay = tl.exp(after) if REVERSE else tl.exp(until)
    result *= decay[:, None]
    right = _tile(right_ptr, first, own, num_rows, right_stride, num_states, TILE, N)
    scores = tl.dot(left, tl.trans(right), input_precision=PRECISION, out_dtype=wide)
    if REVERSE:
        seen, span = index[:, None] <= index[None, :], until[None, :] - until[:, None]
        scores *= tl.exp(tl.where(seen, span, float("-inf")))
    else:
        seen, span = index[:, None] >= index[None, :], until[:, None] - until[None, :]
        scores *= tl.exp(tl.where(seen, span, float("-inf"))) * dt[None, :]
    rows = _tile(rows_ptr + head * head_dim, first, own, num_rows, rows_stride, head_dim, TILE, P)
    result = tl.dot(scores.to(rows.dtype), rows, result, input_precision=PRECISION, out_dtype=wide)

    within = own * TILE + index
    out = result
    if REVERSE:
        x = _tile(x_ptr + head * head_dim, first, own, num_rows, x_stride, head_dim, TILE, P).to(wide)
        tl.store(grad_dt_ptr + (first + within) * num_heads + head, tl.sum(result * x, 1), mask=within < num_rows)
        tl.store(to_D, tl.sum(tl.sum(rows * x, 1), 0))
        out = result * dt[:, None]
    out += tl.load(D_ptr + head) * rows
    column = tl.arange(0, P)[None, :]
    at = out_ptr + (first + within)[:, None] * out_stride + head * head_dim + column
    tl.store(at, out.to(rows.dtype), mask=(within < num_rows)[:, None] & (column < head_dim))


@tuned((8, 2), (8, 3))
@triton.jit
def score_gradients(
    C_ptr, B_ptr, grad_ptr, x_ptr, dt_ptr, A_ptr, totals_ptr, first_row_ptr, num_rows_ptr,
    grad_scores_ptr, from_tile_ptr, to_later_ptr, num_positions, num_heads, head_dim, num_states,
    C_stride, B_stride, grad_stride, x_stride,
    TILE: tl.constexpr, TILES: tl.constexpr, N: tl.constexpr, P: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """K for a pair of tiles i >= j, summed over heads; and of each head what passes positions, made of K (C_i B_j).

    What passes a position of tile i comes from tile j and goes to it or to a later one; what passes one of tile j comes
    from an earlier one. Where nothing passes, that is a sum of zeros, and no difference for a large dt to multiply.
    """
    block, pair = tl.program_id(0).to(tl.int64) // (TILES * TILES), tl.program_id(0) % (TILES * TILES)
    i, j = pair // TILES, pair % TILES
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block).to(tl.int32)
    if (j > i) | (i * TILE >= num_rows):
        return
    wide: tl.constexpr = dt_ptr.dtype.element_ty
    index = tl.arange(0, TILE)
    C = _tile(C_ptr, first, i, num_rows, C_stride, num_states, TILE, N)
    B = _tile(B_ptr, first, j, num_rows, B_stride, num_states, TILE, N)
    scores = tl.dot(C, tl.trans(B), input_precision=PRECISION, out_dtype=wide)
    differs = (i - j) * TILE + index[:, None] - index[None, :]
    row, column = i * TILE + index, j * TILE + index
    total = tl.zeros([TILE, TILE], dtype=wide)
    for head in range(num_heads):
        A = tl.load(A_ptr + head)
        _, until, _ = _log_decays(dt_ptr, A, first, i, num_rows, head, num_heads, TILE)
        other_dt, other_until, other_after = _log_decays(dt_ptr, A, first, j, num_rows, head, num_heads, TILE)
        if i == j:
            span = until[:, None] - other_until[None, :]
        else:
            between = _sum_of_tiles(totals_ptr, block, head, num_heads, j + 1, i, TILES)
            span = until[:, None] + (between + other_after)[None, :]
        decay = tl.exp(tl.where(differs >= 0, span, float("-inf")))
        grad = _tile(grad_ptr + head * head_dim, first, i, num_rows, grad_stride, head_dim, TILE, P)
        x = _tile(x_ptr + head * head_dim, first, j, num_rows, x_stride, head_dim, TILE, P)
        K = tl.dot(grad, tl.trans(x), input_precision=PRECISION, out_dtype=wide) * decay * other_dt[None, :]
        total += K
        K = tl.where(differs > 0, K * scores, 0)
        if i == j:
            passes = tl.sum(tl.where(differs > 0, tl.cumsum(K, 0, reverse=True), 0), 1)
        else:
            passes = tl.cumsum(tl.sum(K, 1), 0, reverse=True)
            sums = tl.sum(K, 0)
            at = to_later_ptr + (i.to(tl.int64) * num_positions + first + column) * num_heads + head
            tl.store(at, tl.cumsum(sums, 0) - sums, mask=column < num_rows)
        at = from_tile_ptr + (j.to(tl.int64) * num_positions + first + row) * num_heads + head
        tl.store(at, passes, mask=row < num_rows)
    at = grad_scores_ptr + (block * TILES * TILE + row[:, None]) * TILES * TILE + column[None, :]
    tl.store(at, total.to(C.dtype))


@tuned((8, 2), (8, 3))
@triton.jit
def projection_gradients(
    rows_ptr, own_ptr, other_ptr, state_ptr, dt_ptr, A_ptr, totals_ptr, grad_scores_ptr, first_row_ptr, num_rows_ptr,
    out_ptr, sums_ptr, num_heads, head_dim, num_states, rows_stride, own_stride, other_stride, out_stride,
    REVERSE: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, N: tl.constexpr, P: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """The gradient to C, in reverse that to B, of a tile; and of each head its part through the state, times C or B."""
    block, own = tl.program_id(0).to(tl.int64) // TILES, tl.program_id(0) % TILES
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block).to(tl.int32)
    if own * TILE >= num_rows:
        return
    wide: tl.constexpr = dt_ptr.dtype.element_ty
    index = tl.arange(0, TILE)
    within = own * TILE + index
    mine = _tile(own_ptr, first, own, num_rows, own_stride, num_states, TILE, N)
    total = tl.zeros([TILE, N], dtype=wide)
    for head in range(num_heads):
        A = tl.load(A_ptr + head)
        dt, until, after = _log_decays(dt_ptr, A, first, own, num_rows, head, num_heads, TILE)
        if REVERSE:
            weight = tl.exp(after + _sum_of_tiles(totals_ptr, block, head, num_heads, own + 1, TILES, TILES)) * dt
        else:
            weight = tl.exp(until + _sum_of_tiles(totals_ptr, block, head, num_heads, 0, own, TILES))
        rows = _tile(rows_ptr + head * head_dim, first, own, num_rows, rows_stride, head_dim, TILE, P)
        state = _state(state_ptr, block, head, num_heads, num_states, head_dim, N, P).to(rows.dtype)
        part = tl.dot(rows, tl.trans(state), input_precision=PRECISION, out_dtype=wide) * weight[:, None]
        at = sums_ptr + (first + within) * num_heads + head
        tl.store(at, tl.sum(part * mine, 1), mask=within < num_rows)
        total += part
    num_others = (num_rows + TILE - 1) // TILE - own if REVERSE else own + 1
    scores_ptr = grad_scores_ptr + block * TILES * TILE * TILES * TILE
    for i in range(num_others):
        other = own + i if REVERSE else i
        rows, columns = (other, own) if REVERSE else (own, other)
        at = (rows * TILE + index[:, None]) * TILES * TILE + columns * TILE + index[None, :]
        scores = tl.load(scores_ptr + at)
        if REVERSE:
            scores = tl.trans(scores)
        others = _tile(other_ptr, first, other, num_rows, other_stride, num_states, TILE, N)
        total = tl.dot(scores, others, total, input_precision=PRECISION, out_dtype=wide)
    n = tl.arange(0, N)[None, :]
    at = out_ptr + (first + within)[:, None] * out_stride + n
    tl.store(at, total.to(mine.dtype), mask=(within < num_rows)[:, None] & (n < num_states))


@no_type_check
@triton.jit
def decay_gradients(
    from_tile_ptr, to_later_ptr, from_start_ptr, to_end_ptr, through_ptr, dt_ptr, A_ptr, first_row_ptr, num_rows_ptr,
    direct_ptr, raw_dt_ptr, bias_ptr, grad_dt_ptr, grad_A_ptr, num_positions, num_heads, num_parts, raw_dt_stride,
    grad_dt_stride, IS_RAW: tl.constexpr, TILE: tl.constexpr, TILES: tl.constexpr, HEADS: tl.constexpr,
):  # fmt: skip
    """The gradient to dt of a block, and its part of that to A. Where dt is `IS_RAW`, softplus(raw_dt + bias) with A =
    -exp(A_log), those to raw_dt and A_log, and, in one more row of parts, that to the bias.

    dt A at a position decays whatever passes it: pairs on either side, what comes from the state before the block, what
    goes into the state behind it, and what goes from one to the other.
    """
    block = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1) * HEADS + tl.arange(0, HEADS)[None, :]
    first, num_rows = tl.load(first_row_ptr + block), tl.load(num_rows_ptr + block).to(tl.int32)
    index = tl.arange(0, TILE * TILES)[:, None]
    is_head = head < num_heads
    exists = (index < num_rows) & is_head
    at = (first + index) * num_heads + head
    own = index // TILE
    passes = tl.cumsum(tl.load(from_start_ptr + at, mask=exists, other=0), 0, reverse=True)
    begins = tl.load(to_end_ptr + at, mask=exists, other=0)
    passes += tl.cumsum(begins, 0) - begins
    for tile in range(TILES):
        of_tile = tile * num_positions.to(tl.int64) * num_heads
        passes += tl.load(from_tile_ptr + of_tile + at, mask=exists & (tile <= own), other=0)
        is_later = exists & (tile > own) & (tile * TILE + index * 0 < num_rows)
        passes += tl.load(to_later_ptr + of_tile + at, mask=is_later, other=0)
        for later in range(tile + 2, TILES):  # all that goes from this tile to that one passes the tiles between
            there = of_tile + (first + later * TILE) * num_heads + head
            total = tl.load(from_tile_ptr + there, mask=is_head & (later * TILE + head * 0 < num_rows), other=0)
            passes += tl.where((own > tile) & (own < later), total, 0)
    for part in range(num_parts):
        through = through_ptr + (block * num_heads + head) * num_parts + part
        passes += tl.load(through, mask=is_head & (index * 0 < num_rows), other=0)
    dt = tl.load(dt_ptr + at, mask=exists, other=0)
    A = tl.load(A_ptr + head, mask=is_head, other=0)
    direct = tl.load(direct_ptr + at, mask=exists, other=0)
    grad_dt = direct + A * passes
    grad_A = tl.sum(tl.where(exists, dt * passes, 0), 0)[None, :]
    to_A = grad_A_ptr + block * num_heads + head
    if IS_RAW:
        raw_dt = tl.load(raw_dt_ptr + (first + index) * raw_dt_stride + head, mask=exists, other=0).to(dt.dtype)
        raw_dt += tl.load(bias_ptr + head, mask=is_head, other=0)
        slope = tl.where(raw_dt > 20, 1, 1 / (1 + tl.exp(-raw_dt)))  # as torch has it
        grad_dt = tl.where(exists, grad_dt * slope, 0)
        grad_A *= A
        to_A += block * num_heads
        tl.store(to_A + num_heads, tl.sum(grad_dt, 0)[None, :], mask=is_head)
    to_dt = grad_dt_ptr + (first + index) * grad_dt_stride + head
    tl.store(to_dt, grad_dt.to(grad_dt_ptr.dtype.element_ty), mask=exists)
    tl.store(to_A, grad_A, mask=is_head)


@no_type_check
@triton.jit
def step(
    x_ptr, dt_ptr, A_ptr, B_ptr, C_ptr, D_ptr, cu_seqlens_ptr, initial_ptr, y_ptr, final_ptr,
    num_heads, head_dim, num_states, x_stride, B_stride, C_stride, N: tl.constexpr, P: tl.constexpr,
):  # fmt: skip
    """The recurrence itself, for a sequence of one position or none and a head; its state is (n, h, p)."""
    sequence, head = tl.program_id(0).to(tl.int64), tl.program_id(1)
    row = tl.load(cu_seqlens_ptr + sequence)
    n, p = tl.arange(0, N), tl.arange(0, P)
    at = (sequence * num_states + n[:, None]) * num_heads * head_dim + head * head_dim + p[None, :]
    inside = (n < num_states)[:, None] & (p < head_dim)[None, :]
    state = tl.load(initial_ptr + at, mask=inside, other=0)
    if tl.load(cu_seqlens_ptr + sequence + 1) > row:
        dt = tl.load(dt_ptr + row * num_heads + head)
        x = tl.load(x_ptr + row * x_stride + head * head_dim + p, mask=p < head_dim, other=0).to(dt.dtype)
        B = tl.load(B_ptr + row * B_stride + n, mask=n < num_states, other=0).to(dt.dtype)
        C = tl.load(C_ptr + row * C_stride + n, mask=n < num_states, other=0).to(dt.dtype)
        state = tl.exp(dt * tl.load(A_ptr + head)) * state + B[:, None] * (dt * x)[None, :]
        y = tl.sum(C[:, None] * state, 0) + tl.load(D_ptr + head) * x
        y_at = y_ptr + row * num_heads * head_dim + head * head_dim + p
        tl.store(y_at, y.to(y_ptr.dtype.element_ty), mask=p < head_dim)
    tl.store(final_ptr + at, state, mask=inside)
