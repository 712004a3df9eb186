"""Causal multi-head self-attention with rotary positions, global or in a sliding window.

y = W_o softmax(rot(q) rot(k)^T / sqrt(p)) v,  [q, k, v] = W_qkv x

As others have it, several heads of q may share one of k and v, W_qkv may have biases, and q and k an RMS norm before
they are rotated (`AttentionConfig`).
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from hnet_lm.model.layers import RMSNorm
from hnet_lm.ops.attention import AttentionState, KVState, attention
from hnet_lm.ops.rotary import rotary
from hnet_lm.sequences import Sequences
from hnet_lm.stage_config import StageConfig


class Attention(nn.Module):
    """State: the keys and values that are still visible (`KVState`, or `PagedKVState`)."""

    def __init__(self, config: StageConfig):
        super().__init__()
        d_model, sizes = config.d_model, config.attention
        self.num_heads = sizes.num_heads
        self.num_kv_heads = sizes.kv_heads
        self.head_dim = config.head_dim
        self.rotary_emb_dim = sizes.rotary_emb_dim
        self.rotary_base = sizes.rotary_base
        scaling = sizes.rotary_scaling
        self.rotary_frequencies = (
            None if scaling is None else scaling.frequencies(self.rotary_emb_dim, sizes.rotary_base)
        )
        self.rotary_magnitude = 1.0 if scaling is None else scaling.magnitude
        self.window_size = sizes.window_size
        num_projected = self.num_heads + 2 * self.num_kv_heads
        self.qkv_proj = nn.Linear(d_model, num_projected * self.head_dim, bias=sizes.qkv_bias)
        self.out_proj = nn.Linear(self.num_heads * self.head_dim, d_model, bias=False)
        widths = {
            None: None,
            "head": (self.head_dim, self.head_dim),
            "all": (self.num_heads * self.head_dim, self.num_kv_heads * self.head_dim),
        }[sizes.qk_norm]
        self.q_norm, self.k_norm = (
            (None, None) if widths is None else (RMSNorm(width, eps=config.norm_eps) for width in widths)
        )

    def forward(
        self, x: Float[Tensor, "t d"], seqs: Sequences, state: AttentionState | None = None
    ) -> tuple[Float[Tensor, "t d"], AttentionState | None]:
        num_rotated = self.num_heads + self.num_kv_heads
        qkv = self.qkv_proj(x).unflatten(-1, (num_rotated + self.num_kv_heads, self.head_dim))  # t h+2g p
        qk, v = qkv.split([num_rotated, self.num_kv_heads], dim=1)
        if self.q_norm is not None and self.k_norm is not None:
            q, k = qk.split([self.num_heads, self.num_kv_heads], dim=1)
            qk = torch.cat([_normed(self.q_norm, q), _normed(self.k_norm, k)], dim=1)
        positions = seqs.positions
        if state is not None:
            positions = positions + seqs.owned(state.num_seen)[seqs.sequence_ids]
        scaling = (self.rotary_base, self.rotary_frequencies, self.rotary_magnitude)
        qk = rotary(qk, positions, self.rotary_emb_dim, *scaling)
        q, k = qk.split([self.num_heads, self.num_kv_heads], dim=1)  # t h p, t g p
        y, state = attention(q, k, v, self.window_size, seqs, state)
        return self.out_proj(y.flatten(1)), state

    def new_state(self, num_sequences: int, dtype: torch.dtype | None = None) -> KVState:
        """`dtype` is that of the input, which rounded or quantised weights do not have; None: that of the weights."""
        weight = next(self.parameters())
        dtype = dtype or weight.dtype
        return KVState.new(num_sequences, self.num_kv_heads, self.head_dim, dtype, weight.device, self.window_size)


def _normed(norm: RMSNorm, x: Float[Tensor, "t h p"]) -> Float[Tensor, "t h p"]:
    """Each head, or all heads of a position as one vector: the norm is as wide as that."""
    return norm(x.reshape(-1, len(norm.weight))).to(x.dtype).view(x.shape)
