"""A pre-norm residual block, x + mixer(norm(x)), then for the upper-case letters x + mlp(norm(x)).

The residual stream stays in at least float32; only what enters a mixer or an MLP has the weights' type.
"""

from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import Mamba2Config, StageConfig
from hnet_lm.layout import BlockKind
from hnet_lm.model.layers import GatedMLP, RMSNorm
from hnet_lm.model.mixers import Attention, Mamba2
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


class Block(nn.Module):
    """State: its mixer's."""

    def __init__(self, kind: BlockKind, stage: StageConfig, mamba2: Mamba2Config):
        super().__init__()
        d_model = stage.d_model
        self.mixer_norm = RMSNorm(d_model, feeds_linear=True)
        self.mixer = Mamba2(d_model, mamba2) if kind.mixer == "mamba2" else Attention(stage)
        self.mlp_norm = RMSNorm(d_model, feeds_linear=True) if kind.has_mlp else None
        self.mlp = GatedMLP(d_model, stage.d_intermediate) if kind.has_mlp else None

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None = None
    ) -> tuple[Float[Tensor, "t d"], State | None]:
        y, state = self.mixer(self.mixer_norm(x), seqs, state)
        x = x + y
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp(self.mlp_norm(x))
        return x, state

    def new_state(self, num_sequences: int) -> State:
        return self.mixer.new_state(num_sequences, self.mixer_norm.weight.dtype)
