"""A pre-norm residual block, x + mixer(norm(x)), then for the upper-case letters x + mlp(norm(x)).

The residual stream stays in at least float32; only what enters a mixer or an MLP has the weights' type.
"""

from typing import Any

from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import Mamba2Config, StageConfig
from hnet_lm.layout import BlockKind
from hnet_lm.model.layers import GatedMLP, RMSNorm
from hnet_lm.model.mixers import Attention, Mamba2
from hnet_lm.ops import Layer
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


class Block(nn.Module):
    """State: its mixer's."""

    def __init__(self, kind: BlockKind, stage: StageConfig, mamba2: Mamba2Config):
        super().__init__()
        self.mixer_norm = RMSNorm(stage.d_model)
        self.mixer = Mamba2(stage.d_model, mamba2) if kind.mixer == "mamba2" else Attention(stage)
        self.mlp_norm = RMSNorm(stage.d_model) if kind.has_mlp else None
        self.mlp = GatedMLP(stage.d_model, stage.d_intermediate) if kind.has_mlp else None

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: State | None = None
    ) -> tuple[Float[Tensor, "t d"], State | None]:
        y, state = self.mixer(x, seqs, state, self.mixer_norm)
        x = x + y
        if self.mlp is not None and self.mlp_norm is not None:
            x = x + self.mlp(x, self.mlp_norm)
        return x, state

    def layers(self, state: State | None) -> list[tuple[Layer, State | None]]:
        """The same as data, for `residual_layers`: the mixer with the state, and the MLP, which has none."""
        parts: dict[str, Any] = self._modules  # asked as attributes, all parts together would take a tenth of a step
        layers: list[tuple[Layer, State | None]] = [(parts["mixer"].layer(parts["mixer_norm"]), state)]
        if "mlp" in parts:
            layers.append((parts["mlp"].layer(parts["mlp_norm"]), None))
        return layers

    def new_state(self, num_sequences: int) -> State:
        return self.mixer.new_state(num_sequences)
