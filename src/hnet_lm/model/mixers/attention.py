"""Causal multi-head self-attention with rotary positions, global or in a sliding window.

y = W_o softmax(rot(q) rot(k)^T / sqrt(p)) v,  [q, k, v] = W_qkv x
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.config import StageConfig
from hnet_lm.ops.attention import AttentionState, KVState, attention
from hnet_lm.ops.rotary import rotary
from hnet_lm.sequences import Sequences


class Attention(nn.Module):
    """State: the keys and values that are still visible (`KVState`, or `PagedKVState`)."""

    def __init__(self, config: StageConfig):
        super().__init__()
        d_model, sizes = config.d_model, config.attention
        self.num_heads = sizes.num_heads
        self.head_dim = d_model // sizes.num_heads
        self.rotary_emb_dim = sizes.rotary_emb_dim
        self.window_size = sizes.window_size
        self.qkv_proj = nn.Linear(d_model, 3 * d_model, bias=False)
        self.out_proj = nn.Linear(d_model, d_model, bias=False)

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: AttentionState | None = None
    ) -> tuple[Float[Tensor, "t d"], AttentionState | None]:
        qkv = self.qkv_proj(x).unflatten(-1, (3 * self.num_heads, self.head_dim))  # t 3h p
        qk, v = qkv.split([2 * self.num_heads, self.num_heads], dim=1)
        positions = seqs.positions
        if state is not None:
            positions = positions + seqs.owned(state.num_seen)[seqs.sequence_ids]
        q, k = rotary(qk, positions, self.rotary_emb_dim).chunk(2, dim=1)  # t h p
        y, state = attention(q, k, v, self.window_size, seqs, state)
        return self.out_proj(y.flatten(1)), state

    def new_state(self, num_sequences: int, dtype: torch.dtype | None = None) -> KVState:
        """`dtype` is that of the input, which rounded or quantised weights do not have; None: that of the weights."""
        weight = next(self.parameters())
        return KVState.new(num_sequences, self.num_heads, self.head_dim, dtype or weight.dtype, weight.device)
