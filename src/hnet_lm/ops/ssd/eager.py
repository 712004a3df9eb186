"""The chunked matrix form: within a block like attention with decay, between blocks the block recurrence.

Products that many heads share (C B^T, and both with the state) are computed once for all heads; a head's decay then
enters as a scale of rows. Matrix products follow the autocast; decays, their sums and the states stay in float32.
"""

import torch
from torch import Tensor

from hnet_lm.ops.blocks import blocks_of
from hnet_lm.sequences import Sequences

BLOCK_SIZE = 64


def ssd(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    B, C = B.to(dt.dtype), C.to(dt.dtype)  # weights in bfloat16 meet decays in float32
    if seqs.max_length <= 1 and state is not None:
        y, state = _step(x, dt, A, B, C, seqs, state)
    else:
        y, state = _blocked(x, dt, A, B, C, seqs, state)
    return torch.addcmul(y, D[:, None], x.to(y.dtype)).to(x.dtype), state


def _blocked(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, seqs: Sequences, state: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    _, h, p = x.shape
    n = B.shape[1]
    blocks = blocks_of(seqs, max(1, min(BLOCK_SIZE, seqs.max_length)))
    inputs = blocks.split(x * dt[..., None])  # k q h p
    B, C = blocks.split(B), blocks.split(C)  # k q n
    log_decay = blocks.split(dt * A).cumsum(1)  # k q h: from the block's start up to and with each position

    by_head = log_decay.transpose(1, 2)  # k h q
    seen = torch.ones(blocks.size, blocks.size, dtype=torch.bool, device=x.device).tril()
    decay = (by_head[..., None] - by_head[..., None, :]).masked_fill(~seen, float("-inf")).exp()  # k h q q
    scores = (C @ B.transpose(1, 2))[:, None] * decay
    y = (scores @ inputs.transpose(1, 2)).transpose(1, 2)  # k q h p

    to_end = (log_decay[:, -1:] - log_decay).exp()[..., None]
    update = (B.transpose(1, 2) @ (inputs * to_end).flatten(2)).unflatten(2, (h, p))  # k n h p
    initial = dt.new_zeros(seqs.num_sequences, n, h, p) if state is None else seqs.owned(state).to(dt.dtype)
    before, final = blocks.pass_states(update.to(dt.dtype), log_decay[:, -1].exp()[:, None, :, None], initial)
    carried = (C @ before.flatten(2)).unflatten(2, (h, p))
    y = torch.addcmul(y.to(dt.dtype), log_decay.exp()[..., None], carried.to(dt.dtype))
    return blocks.merge(y), None if state is None else seqs.replaced(state, final)


def _step(
    x: Tensor, dt: Tensor, A: Tensor, B: Tensor, C: Tensor, seqs: Sequences, state: Tensor
) -> tuple[Tensor, Tensor]:
    """At most one position a sequence: the recurrence itself."""
    active = seqs.nonempty_only()
    with torch.autocast(x.device.type, enabled=False):
        decayed = (dt * A).exp()[:, None, :, None] * active.owned(state)  # t n h p
        inputs = (x * dt[..., None]).flatten(1)  # t (h p)
        h = torch.baddbmm(decayed.flatten(2), B[..., None], inputs[:, None])
        y = (C[:, None] @ h).view_as(x)
    return y, active.replaced(state, h.view_as(decayed))
