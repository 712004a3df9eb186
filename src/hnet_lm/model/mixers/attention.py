"""Causal multi-head self-attention with rotary positions, global or in a sliding window.

y = W_o softmax(rot(q) rot(k)^T / sqrt(p)) v,  [q, k, v] = W_qkv x
"""

from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import StageConfig
from hnet_lm.model.layers import Linear, RMSNorm
from hnet_lm.ops import AttentionLayer, AttentionShape, AttentionWeights, KVState, self_attention
from hnet_lm.sequences import Sequences


class Attention(nn.Module):
    """State: the keys and values that are still visible (`KVState`)."""

    def __init__(self, config: StageConfig):
        super().__init__()
        d_model, sizes = config.d_model, config.attention
        self.shape = AttentionShape(sizes.num_heads, sizes.rotary_emb_dim, sizes.window_size)
        self.head_dim = d_model // sizes.num_heads
        self.qkv_proj = Linear(d_model, 3 * d_model)
        self.out_proj = Linear(d_model, d_model)

    def forward(
        self,
        x: Float[Tensor, "t d"],
        seqs: Sequences,
        state: KVState | None = None,
        norm: RMSNorm | None = None,
    ) -> tuple[Float[Tensor, "t d"], KVState | None]:
        """Of norm(x), where a norm is given."""
        return self_attention(x, self.weights(), self.shape, seqs, state, pre_norm=norm and norm.as_pre_norm)

    def layer(self, norm: RMSNorm) -> AttentionLayer:
        return AttentionLayer(norm.as_pre_norm, self.weights(), self.shape)

    def weights(self) -> AttentionWeights:
        return AttentionWeights(self.qkv_proj.weight, self.out_proj.weight)

    def new_state(self, num_sequences: int) -> KVState:
        weight = self.qkv_proj.weight
        return KVState.new(num_sequences, self.shape.num_heads, self.head_dim, weight.dtype, weight.device)
