"""The operations a model is made of that are more than one line of torch: pure functions over packed sequences.

An op that carries state takes it as its last argument and returns it with its result, `y, state = op(..., state)`. With
`None` nothing is carried in or out (training). The state has one row a slot, and the passed one is consumed.
"""

from hnet_lm.ops.attention import AttentionState, KVState, PagedKVState, attention
from hnet_lm.ops.boundary_prob import boundary_prob
from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.gated_mlp import gated_mlp
from hnet_lm.ops.linear import LinearWeight, RoundedWeight, linear
from hnet_lm.ops.mamba2 import Mamba2State, Mamba2Weights, mamba2
from hnet_lm.ops.residual_layers import AttentionLayer, Layer, Mamba2Layer, MLPLayer, residual_layers
from hnet_lm.ops.rms_norm import PreNorm, rms_norm
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.ops.self_attention import AttentionShape, AttentionWeights, self_attention
from hnet_lm.ops.ssd import ssd

__all__ = [
    "AttentionLayer",
    "AttentionShape",
    "AttentionState",
    "AttentionWeights",
    "KVState",
    "Layer",
    "LinearWeight",
    "MLPLayer",
    "Mamba2Layer",
    "Mamba2State",
    "Mamba2Weights",
    "PagedKVState",
    "PreNorm",
    "RoundedWeight",
    "attention",
    "boundary_prob",
    "causal_conv",
    "ema_scan",
    "gated_mlp",
    "linear",
    "mamba2",
    "residual_layers",
    "rms_norm",
    "select_chunks",
    "self_attention",
    "ssd",
    "use_backend",
]
