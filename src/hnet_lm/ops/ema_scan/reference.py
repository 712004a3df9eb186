"""The recurrence as it is written, one position after the other."""

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences


def ema_scan(x: Tensor, p: Tensor, seqs: Sequences, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    outputs, finals = [], []
    for i, (start, length) in enumerate(zip(seqs.starts.tolist(), seqs.host_lengths, strict=True)):
        z = x.new_zeros(x.shape[1]) if state is None else seqs.owned(state)[i]
        for t in range(start, start + length):
            z = p[t] * x[t] + (1 - p[t]) * z
            outputs.append(z)
        finals.append(z)
    y = torch.stack(outputs) if outputs else torch.zeros_like(x)
    if state is not None and finals:
        state = seqs.replaced(state, torch.stack(finals))
    return y, state
