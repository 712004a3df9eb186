"""A stack of blocks of one width, then an RMS norm (not in SpaceByte): an encoder, a decoder, or the main network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import Mamba2Config, StageConfig
from hnet_lm.layout import parse_layout
from hnet_lm.model.block import Block
from hnet_lm.model.layers import RMSNorm
from hnet_lm.ops import residual_layers
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


@dataclass
class IsotropicState(State):
    """One state a block."""

    blocks: tuple[State, ...]


class Isotropic(nn.Module):
    """norm(block_n(... block_1(x))). State: its blocks'."""

    def __init__(self, layout: str, stage: StageConfig, mamba2: Mamba2Config, *, ends_in_norm: bool = True):
        super().__init__()
        self.blocks = nn.ModuleList(Block(kind, stage, mamba2) for kind in parse_layout(layout))
        self.norm = RMSNorm(stage.d_model) if ends_in_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: IsotropicState | None = None
    ) -> tuple[Float[Tensor, "t d"], IsotropicState | None]:
        x = x.to(torch.promote_types(x.dtype, torch.float32))
        if state is not None and not len(x):  # as in most steps of decoding within an inner stage
            return self.norm(x), state
        blocks = cast(Sequence[Block], self.blocks)
        carried = (None,) * len(blocks) if state is None else state.blocks
        if state is not None and seqs.max_length <= 1 and not any(_has_hooks(part) for part in (*blocks, self.norm)):
            # A step of decoding: one op takes all blocks, which together are done before each has been called.
            layers = [layer for i, block in enumerate(blocks) for layer in block.layers(carried[i])]
            norm = self.norm.as_pre_norm if isinstance(self.norm, RMSNorm) else None
            x, states = residual_layers(x, layers, seqs, norm)
            return x, IsotropicState(tuple(each for each in states if each is not None))
        states = []
        for block, block_state in zip(blocks, carried, strict=True):
            x, block_state = block(x, seqs, block_state)
            states.append(block_state)
        return self.norm(x), state and IsotropicState(tuple(states))

    def new_state(self, num_sequences: int) -> IsotropicState:
        blocks = cast(Sequence[Block], self.blocks)
        return IsotropicState(tuple(block.new_state(num_sequences) for block in blocks))


def _has_hooks(module: nn.Module) -> bool:
    """Whether somebody, as FSDP or a profiler, counts on this module or its parts being called."""
    if module._forward_hooks or module._forward_pre_hooks:
        return True
    for part in module._modules.values():  # `children()` would take a twentieth of a step
        if part is not None and (part._forward_hooks or part._forward_pre_hooks):
            return True
    return False
