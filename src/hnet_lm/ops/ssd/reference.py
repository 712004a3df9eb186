"""The recurrence as it is written, one position after the other."""

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    dtype = x.dtype
    x, B, C = (part.to(dt.dtype) for part in (x, B, C))
    outputs, finals = [], []
    for i, (start, length) in enumerate(zip(seqs.starts.tolist(), seqs.host_lengths, strict=True)):
        h = x.new_zeros(B.shape[1], *x.shape[1:]) if state is None else seqs.owned(state)[i]  # n h p
        for t in range(start, start + length):
            update = torch.einsum("n,h,hp->nhp", B[t], dt[t], x[t])
            h = torch.exp(dt[t] * A)[:, None] * h + update
            outputs.append(torch.einsum("n,nhp->hp", C[t], h) + D[:, None] * x[t])
        finals.append(h)
    y = torch.stack(outputs) if outputs else torch.zeros_like(x)
    if state is not None and finals:
        state = seqs.replaced(state, torch.stack(finals))
    return y.to(dtype), state
