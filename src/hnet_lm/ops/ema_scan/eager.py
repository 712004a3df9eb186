"""Parallel over time: within a block a lower-triangular matrix product, between blocks the block recurrence."""

import torch
from torch import Tensor

from hnet_lm.ops.blocks import blocks_of, within_block_decay
from hnet_lm.sequences import Sequences

BLOCK_SIZE = 64


def ema_scan(x: Tensor, p: Tensor, seqs: Sequences, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    with torch.autocast(x.device.type, enabled=False):
        update = p[:, None] * x
        if seqs.max_length <= 1:
            return _step(update, p, seqs, state)
        blocks = blocks_of(seqs, min(BLOCK_SIZE, seqs.max_length))
        log_decay = blocks.split(torch.log1p(-p))  # k q
        update = blocks.split(update)  # k q d
        within = within_block_decay(log_decay) @ update  # k q d
        from_start = log_decay.cumsum(1).exp()[..., None]  # k q 1
        initial = update.new_zeros(seqs.num_sequences, update.shape[-1]) if state is None else seqs.owned(state)
        before, final = blocks.pass_states(within[:, -1], from_start[:, -1], initial.to(update.dtype))
        y = blocks.merge(torch.addcmul(within, from_start, before[:, None]))
    return y, None if state is None else seqs.replaced(state, final)


def _step(update: Tensor, p: Tensor, seqs: Sequences, state: Tensor | None) -> tuple[Tensor, Tensor | None]:
    if state is None:
        return update, None
    active = seqs.nonempty_only()
    y = torch.addcmul(update, 1 - p[:, None], active.owned(state).to(update.dtype))
    return y, active.replaced(state, y)
