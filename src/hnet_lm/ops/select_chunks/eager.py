"""One gather; the new lengths are differences of a running count. Waits for the device once, to learn the count."""

from itertools import accumulate

import torch
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.rows import gather_rows
from hnet_lm.sequences import Sequences


def select_chunks(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    if seqs.max_length <= 1:
        return _of_single_positions(x, is_boundary, seqs)
    rows = is_boundary.nonzero().squeeze(1)
    count = pad(is_boundary.cumsum(0), (1, 0))  # t+1: boundaries before each position
    return gather_rows(x, rows), seqs.inner(count[seqs.cu_seqlens])


def _of_single_positions(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    """As in decoding: a sequence has one chunk or none, so one list tells everything."""
    kept = is_boundary.tolist()
    rows = [row for row, is_kept in enumerate(kept) if is_kept]
    if len(rows) == len(kept):
        return x, seqs.inner(seqs.cu_seqlens, seqs.host_lengths)
    each = iter(kept)
    lengths = [int(length and next(each)) for length in seqs.host_lengths]
    inner = seqs.inner(torch.tensor([0, *accumulate(lengths)], device=x.device), lengths)
    return gather_rows(x, torch.tensor(rows, dtype=torch.int64, device=x.device)) if rows else x[:0], inner
