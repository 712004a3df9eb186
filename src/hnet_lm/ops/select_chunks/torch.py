"""One gather; the new lengths are differences of a running count. Waits for the device once, to learn the count."""

from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.ops.rows import gather_rows
from hnet_lm.sequences import Sequences


def select_chunks(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    rows = is_boundary.nonzero().squeeze(1)
    count = pad(is_boundary.cumsum(0), (1, 0))  # t+1: boundaries before each position
    return gather_rows(x, rows), Sequences(count[seqs.cu_seqlens], seqs.slots)
