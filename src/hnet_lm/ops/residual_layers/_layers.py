"""What a stack may consist of: each layer with its norm and its weights, and what it adds to x."""

from typing import NamedTuple, TypeAlias

from torch import Tensor

from hnet_lm.ops.attention import KVState
from hnet_lm.ops.gated_mlp import gated_mlp
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.mamba2 import Mamba2State, Mamba2Weights, mamba2
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.ops.self_attention import AttentionShape, AttentionWeights, self_attention
from hnet_lm.sequences import Sequences


class Mamba2Layer(NamedTuple):
    norm: PreNorm
    weights: Mamba2Weights
    eps: float

    def output(
        self, x: Tensor, seqs: Sequences, state: Mamba2State | None, backend: str | None
    ) -> tuple[Tensor, Mamba2State | None]:
        return mamba2(x, self.weights, self.eps, seqs, state, pre_norm=self.norm, backend=backend)


class AttentionLayer(NamedTuple):
    norm: PreNorm
    weights: AttentionWeights
    shape: AttentionShape

    def output(
        self, x: Tensor, seqs: Sequences, state: KVState | None, backend: str | None
    ) -> tuple[Tensor, KVState | None]:
        return self_attention(x, self.weights, self.shape, seqs, state, pre_norm=self.norm, backend=backend)


class MLPLayer(NamedTuple):
    norm: PreNorm
    fc1: LinearWeight
    fc2: LinearWeight

    def output(self, x: Tensor, seqs: Sequences, state: None, backend: str | None) -> tuple[Tensor, None]:
        return gated_mlp(x, self.fc1, self.fc2, pre_norm=self.norm, backend=backend), None


Layer: TypeAlias = Mamba2Layer | AttentionLayer | MLPLayer
