"""Position by position."""

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences


def select_chunks(x: Tensor, is_boundary: Tensor, seqs: Sequences) -> tuple[Tensor, Sequences]:
    kept = [row for row, boundary in zip(x, is_boundary.tolist(), strict=True) if boundary]
    lengths = [int(is_boundary[a:b].sum()) for a, b in zip(seqs.cu_seqlens[:-1], seqs.cu_seqlens[1:], strict=True)]
    chunks = torch.stack(kept) if kept else x[:0]
    return chunks, Sequences.from_lengths(lengths, seqs.slots, seqs.device)
