"""A residual block: x + mixer(norm(x)), then for the upper-case letters x + mlp(norm(x)); or the norms come after.

The residual stream stays in at least float32; only what enters a mixer or an MLP has the weights' type.
"""

from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.layout import BlockKind
from hnet_lm.model.layers import GatedMLP, RMSNorm
from hnet_lm.model.mixers import Attention, Mamba2
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import Mamba2Config, StageConfig
from hnet_lm.state import State


def called(module: nn.Module, *arguments: Any) -> Any:
    return module(*arguments)


class Block(nn.Module):
    """State: its mixer's."""

    feeds_linear = True
    """Whether a linear map reads what a norm returns."""
    call_mixer: Callable[..., Any] = staticmethod(called)
    """A compiler of blocks puts one in its place that it does not look into."""

    def __init__(self, kind: BlockKind, stage: StageConfig, mamba2: Mamba2Config):
        super().__init__()
        d_model, eps = stage.d_model, stage.norm_eps
        self.mixer_norm = RMSNorm(d_model, feeds_linear=self.feeds_linear, eps=eps)
        self.mixer = Mamba2(d_model, mamba2) if kind.mixer == "mamba2" else Attention(stage)
        self.mlp_norm = RMSNorm(d_model, feeds_linear=self.feeds_linear, eps=eps) if kind.has_mlp else None
        self.mlp = GatedMLP(d_model, stage.d_intermediate) if kind.has_mlp else None

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None = None
    ) -> tuple[Float[Tensor, "t d"], State | None]:
        y, state = self._mixed(self.mixer_norm(x), seqs, state)
        x = x + y
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp(self.mlp_norm(x))
        return x, state

    def _mixed(self, x: Float[Tensor, "t d"], seqs: Sequences, state: Any) -> tuple[Float[Tensor, "t d"], State | None]:
        return self.call_mixer(self.mixer, x, seqs, state)

    def new_state(self, num_sequences: int) -> State:
        return self.mixer.new_state(num_sequences, self.mixer_norm.weight.dtype)


class PostNormBlock(Block):
    """x + norm(mixer(x)), then x + norm(mlp(x)), as in OLMo 2."""

    feeds_linear = False

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None = None
    ) -> tuple[Float[Tensor, "t d"], State | None]:
        dtype = self.mixer_norm.weight.dtype
        y, state = self._mixed(x.to(dtype), seqs, state)
        x = x + self.mixer_norm(y)
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp_norm(self.mlp(x.to(dtype)))
        return x, state


def build_block(kind: BlockKind, stage: StageConfig, mamba2: Mamba2Config, index: int = 0) -> Block:
    """The block of a stack that is its `index`-th."""
    block = PostNormBlock if stage.norms_after else Block
    return block(kind, stage.of_block(index), mamba2)
