"""The compiled loop of one position a sequence."""

from typing import no_type_check

import numpy as np

from hnet_lm.ops.linear._loops import share_product
from hnet_lm.ops.native import at, compiled


@no_type_check  # of Python: numba has types of its own
@compiled
def step(
    team, num_rows, num_slots, d, eps, x, multiply_q, q_proj, q_scale, multiply_k, k_proj, k_scale,
    slots, last, has_seen, p,
):  # fmt: skip
    """All at addresses; both states are changed where they lie. A scale at 0 is none."""
    real = type(eps)
    x, last = at(x, eps, (num_rows, d)), at(last, eps, (num_slots, d))
    slots, has_seen = at(slots, np.int64(1), (num_rows,)), at(has_seen, np.int8(1), (num_slots,))
    p = at(p, eps, (num_rows,))
    before, q, k = np.empty((num_rows, d), real), np.empty((num_rows, d), real), np.empty((num_rows, d), real)
    for row in range(num_rows):
        for j in range(d):
            before[row, j] = last[slots[row], j]
            last[slots[row], j] = x[row, j]
    share_product(team, multiply_q, before, q_proj, q_scale, q)
    share_product(team, multiply_k, x, k_proj, k_scale, k)
    for row in range(num_rows):
        along = q_squares = k_squares = real(0)
        for j in range(d):
            along += q[row, j] * k[row, j]
            q_squares += q[row, j] * q[row, j]
            k_squares += k[row, j] * k[row, j]
        cosine = along / (max(np.sqrt(q_squares), eps) * max(np.sqrt(k_squares), eps))
        unlike = (1 - cosine) / 2
        if unlike < 0:  # and not min and max, which lose a NaN
            unlike = real(0)
        elif unlike > 1:
            unlike = real(1)
        p[row] = unlike if has_seen[slots[row]] else real(1)
        has_seen[slots[row]] = 1
