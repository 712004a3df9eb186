"""Sequence by sequence: the carried inputs in front, then one window a position."""

import torch
from torch import Tensor

from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    width, dtype = weight.shape[1], x.dtype
    wide = torch.promote_types(dtype, torch.float32)
    x, weight, bias = x.to(wide), weight.to(wide), bias.to(wide)
    outputs, finals = [x[:0]], []
    for i, part in enumerate(x.split(seqs.host_lengths)):
        past = x.new_zeros(width - 1, x.shape[1]) if state is None else seqs.owned(state)[i].to(wide)
        inputs = torch.cat([past, part])
        if len(part):
            outputs.append(torch.stack([(inputs[t : t + width] * weight.T).sum(0) + bias for t in range(len(part))]))
        finals.append(inputs[len(part) :])
    if state is not None and finals:
        state = seqs.replaced(state, torch.stack(finals))
    y = torch.cat(outputs)
    return (y * torch.sigmoid(y)).to(dtype), state
