"""Packed positions laid out in blocks of equal size, and the recurrence from block to block.

The parallel form of a linear recurrence computes within a block by matrix products and passes a state between blocks.
Here every block belongs to one sequence, whose last block is filled up with zeros. A zero input with a log decay of
zero changes nothing, so the state after the last block is the sequence's final state, and no mask is needed to keep
sequences apart.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.rows import gather_rows, spread_rows
from hnet_lm.sequences import Sequences


def blocks_of(seqs: Sequences, size: int) -> "Blocks":
    """The block layout of these sequences: made once, shared by every layer that sees them."""
    return seqs.memo(("blocks", size), lambda: Blocks(seqs, size))


class Blocks:
    """`k` blocks of `size` positions, sequence after sequence."""

    def __init__(self, seqs: Sequences, size: int):
        self.size = size
        counts = [-(-length // size) for length in seqs.host_lengths]
        self.num_blocks = sum(counts)
        self.is_view = all(length % size == 0 for length in seqs.host_lengths)
        per_sequence = torch.tensor(counts, dtype=torch.int64)
        first = per_sequence.cumsum(0) - per_sequence
        self.rows = None if self.is_view else first.to(seqs.device)[seqs.sequence_ids] * size + seqs.positions
        # For each rank r: the sequences that have an r-th block, and those blocks.
        self.ranks: list[tuple[Tensor, Tensor]] = []
        for rank in range(max(counts, default=0)):
            sequences = torch.tensor([i for i, count in enumerate(counts) if count > rank])
            self.ranks.append((sequences.to(seqs.device), (first[sequences] + rank).to(seqs.device)))

    def split(self, x: Float[Tensor, "t ..."]) -> Float[Tensor, "k q ..."]:
        """Into blocks; the fill is zero."""
        if self.rows is not None:
            x = spread_rows(x, self.rows, self.num_blocks * self.size)
        return x.unflatten(0, (self.num_blocks, self.size))

    def merge(self, x: Float[Tensor, "k q ..."]) -> Float[Tensor, "t ..."]:
        """Back to packed positions; the fill is dropped."""
        x = x.flatten(0, 1)
        return x if self.rows is None else gather_rows(x, self.rows)

    def pass_states(
        self, update: Float[Tensor, "k ..."], decay: Float[Tensor, "k ..."], initial: Float[Tensor, "b ..."]
    ) -> tuple[Float[Tensor, "k ..."], Float[Tensor, "b ..."]]:
        """The state before each block and after each sequence, for after = decay * before + update in each block.

        `decay` broadcasts against `update` from the second axis on.
        """
        return _PassStates.apply(update, decay, initial, self.ranks)


class _PassStates(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, update: Tensor, decay: Tensor, initial: Tensor, ranks: list[tuple[Tensor, Tensor]]) -> Any:
        state = initial.clone()
        before = torch.empty_like(update)
        for sequences, blocks in ranks:
            carried = state[sequences]
            before[blocks] = carried
            state[sequences] = torch.addcmul(update[blocks], decay[blocks], carried)
        ctx.save_for_backward(before, decay)
        ctx.ranks = ranks
        return before, state

    @staticmethod
    def backward(ctx: Any, grad_before: Tensor, grad_state: Tensor) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]  torch's own takes any gradients
        before, decay = ctx.saved_tensors
        grad_carried = grad_state.clone()
        grad_update = torch.empty_like(before)
        for sequences, blocks in reversed(ctx.ranks):
            grad_after = grad_carried[sequences]
            grad_update[blocks] = grad_after
            grad_carried[sequences] = torch.addcmul(grad_before[blocks], decay[blocks], grad_after)
        grad_decay = (grad_update * before).sum_to_size(decay.shape)
        return grad_update, grad_decay, grad_carried, None


def within_block_decay(log_decay: Float[Tensor, "... q"]) -> Float[Tensor, "... q q"]:
    """Lower-triangular L with L[i, j] = exp(sum of log_decay over j+1 .. i): the part of an input at j left at i.

    Sums of each segment on its own, not differences of one running sum: a long decay leaves no rounding behind.
    """
    q = log_decay.shape[-1]
    ones = torch.ones(q, q, dtype=torch.bool, device=log_decay.device)
    segments = log_decay[..., None].expand(*log_decay.shape, q).masked_fill(~ones.tril(-1), 0.0).cumsum(-2)
    # Outside the triangle the exponent, not the result, is masked: no infinity meets a zero in the gradient.
    return segments.masked_fill(~ones.tril(), float("-inf")).exp()
