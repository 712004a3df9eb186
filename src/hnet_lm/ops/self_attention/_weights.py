"""What self-attention is made of."""

from typing import NamedTuple

from hnet_lm.ops.linear import LinearWeight


class AttentionWeights(NamedTuple):
    """Of width d = h heads times p."""

    qkv_proj: LinearWeight  # 3d, d
    out_proj: LinearWeight  # d, d


class AttentionShape(NamedTuple):
    """How the heads attend."""

    num_heads: int
    rotary_emb_dim: int
    """Entries of a head that are rotated by position."""
    window: int
    """A position sees so many before it; -1: all."""
