"""Packed sequences cut into blocks of equal size, each of one sequence, whose last block may be shorter.

How many blocks there are is known to the device alone. A grid has room for the most there can be, one beginning block
per sequence and the whole ones; those in excess have no rows, and their programs end at once. So no lengths are copied
to the host.
"""

from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn.functional import pad

from hnet_lm.sequences import Sequences


class BlockTable(NamedTuple):
    """`k` blocks, sequence after sequence."""

    first_row: Int[Tensor, " k"]
    num_rows: Int[Tensor, " k"]
    """At most the size; 0 for blocks in excess, which come last."""
    first_block: Int[Tensor, " b_plus_1"]
    """Where the blocks of each sequence begin, and the last one's end."""


def block_table(seqs: Sequences, size: int) -> BlockTable:
    """The blocks of these sequences, on their device: made once, shared by every layer that sees them."""
    return seqs.memo(("block table", size), lambda: _build(seqs, size))


def _build(seqs: Sequences, size: int) -> BlockTable:
    first_block = pad(((seqs.lengths + size - 1) // size).cumsum(0), (1, 0))
    most = seqs.num_positions // size + min(seqs.num_sequences, seqs.num_positions)
    block = torch.arange(most, device=seqs.device)
    sequence = torch.searchsorted(first_block[1:], block, right=True).clamp(max=max(seqs.num_sequences - 1, 0))
    first_row = seqs.starts[sequence] + (block - first_block[sequence]) * size
    num_rows = (seqs.cu_seqlens[1:][sequence] - first_row).clamp(0, size)
    return BlockTable(first_row, num_rows, first_block)
