"""A convolution over all rows as if they were one sequence, then the first w-1 positions of each sequence put right."""

import torch
from torch import Tensor
from torch.nn.functional import conv1d, pad

from hnet_lm.sequences import Sequences


def causal_conv(
    x: Tensor, weight: Tensor, bias: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    width = weight.shape[1]
    past = x.new_zeros(seqs.num_sequences, width - 1, x.shape[1]) if state is None else seqs.owned(state).to(x.dtype)
    inputs = torch.cat([past.flatten(0, 1), x])  # every sequence's past, then all rows
    heads, windows, last = seqs.memo(("conv", width), lambda: _indices(seqs, width))
    y_heads = (inputs[windows] * weight.T).sum(1) + bias  # m d
    if seqs.max_length < width:
        y = y_heads  # every position is a head
    else:
        y = conv1d(pad(x.T[None], (width - 1, 0)), weight[:, None], bias, groups=len(weight))[0].T
        y = y.index_copy(0, heads, y_heads)
    return y, None if state is None else seqs.replaced(state, inputs[last])


def _indices(seqs: Sequences, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows of the head positions, the rows of `inputs` in the window of each, and the last w-1 of each sequence."""
    past = width - 1
    num_past = seqs.num_sequences * past

    def input_rows(sequence: Tensor, position: Tensor) -> Tensor:
        before = sequence * past + past + position
        return torch.where(position < 0, before, num_past + seqs.starts[sequence] + position)

    window = torch.arange(-past, 1, device=seqs.device)
    heads = (seqs.positions < past).nonzero().squeeze(1)
    windows = input_rows(seqs.sequence_ids[heads][:, None], seqs.positions[heads][:, None] + window)
    ids = torch.arange(seqs.num_sequences, device=seqs.device)
    last = input_rows(ids[:, None], seqs.lengths[:, None] - past + torch.arange(past, device=seqs.device))
    return heads, windows, last
