"""A stack of blocks of one width, then an RMS norm (not in SpaceByte): an encoder, a decoder, or the main network."""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from hnet_lm.layout import parse_layout
from hnet_lm.model.block import Block, build_block
from hnet_lm.model.layers import RMSNorm
from hnet_lm.ops.checks import require_floating, require_rows
from hnet_lm.ops.dispatch import remember_backends
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import Mamba2Config, StageConfig
from hnet_lm.state import State, consumed


@dataclass
class IsotropicState(State):
    """One state per block."""

    blocks: tuple[State, ...]


class Isotropic(nn.Module):
    """norm(block_n(... block_1(x))). State: its blocks'."""

    recomputes_blocks: bool = False
    """Activation checkpointing: a block is computed again in the backward pass instead of keeping what it computed."""

    def __init__(self, layout: str, stage: StageConfig, mamba2: Mamba2Config, *, ends_in_norm: bool = True):
        super().__init__()
        self.blocks = nn.ModuleList(
            build_block(kind, stage, mamba2, index) for index, kind in enumerate(parse_layout(layout))
        )
        self.norm = RMSNorm(stage.d_model, eps=stage.norm_eps) if ends_in_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: IsotropicState | None = None
    ) -> tuple[Float[Tensor, "t d"], IsotropicState | None]:
        require_floating("Isotropic", x=x)
        require_rows("Isotropic", seqs, x=x)
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        state = consumed(state, IsotropicState)
        if state is None:
            for block in self.blocks:
                x = self._recomputed(block, x, seqs) if self.recomputes_blocks else block(x, seqs)[0]
            return self.norm(x), None
        if not len(x):  # as in most steps of decoding within an inner stage
            return self.norm(x), state
        states = []
        for block, block_state in zip(self.blocks, state.blocks, strict=True):
            x, block_state = block(x, seqs, block_state)
            states.append(block_state)
        return self.norm(x), IsotropicState(tuple(states))

    def _recomputed(self, block: nn.Module, x: Float[Tensor, "t d"], seqs: Sequences) -> Float[Tensor, "t d"]:
        recall = remember_backends()
        outputs: Any = checkpoint(block, x, seqs, use_reentrant=False, context_fn=lambda: (nullcontext(), recall()))
        return outputs[0]

    def new_state(self, num_sequences: int) -> IsotropicState:
        blocks = cast(Sequence[Block], self.blocks)
        return IsotropicState(tuple(block.new_state(num_sequences) for block in blocks))
