"""One gather; the new lengths are differences of a running count. Waits for the device once, to learn those lengths.

Which rows are kept needs no second look at the device: each boundary writes its own row where its count says.
"""

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.rows import gather_rows
from hnet_lm.sequences import Sequences


def select_chunks(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    if seqs.max_length <= 1:
        return _of_single_positions(x, is_boundary, seqs)
    count = pad(is_boundary.cumsum(0), (1, 0))  # t+1: boundaries before each position
    inner = seqs.inner(count[seqs.cu_seqlens])
    num_chunks = inner.num_positions
    to = torch.where(is_boundary, count[:-1], num_chunks)  # what is no boundary goes into one more row
    rows = to.new_empty(num_chunks + 1).scatter_(0, to, torch.arange(len(x), device=x.device))[:num_chunks]
    inner.keep_rows(rows)
    return gather_rows(x, rows), inner


def _of_single_positions(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    """As in decoding: a sequence has one chunk or none, so one list tells everything."""
    kept = is_boundary.tolist()
    rows = [row for row, is_kept in enumerate(kept) if is_kept]
    if len(rows) == len(kept):
        inner = seqs.inner(seqs.cu_seqlens, seqs.host_lengths)
        inner.keep_rows(torch.arange(len(rows), device=x.device))
        return x, inner
    each = iter(kept)
    lengths = [int(length and next(each)) for length in seqs.host_lengths]
    inner = seqs.inner(torch.tensor([0, *accumulate(lengths)], device=x.device), lengths)
    inner.keep_rows(torch.tensor(rows, dtype=torch.int64, device=x.device))
    return gather_rows(x, inner.rows_of(is_boundary)) if rows else x[:0], inner
