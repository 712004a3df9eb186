"""The operations a model is made of that are more than one line of torch: pure functions over packed sequences.

An op that carries state takes it as its last argument and returns it with its result, `y, state = op(..., state)`. With
`None` nothing is carried in or out (training). The state has one row a slot, and the passed one is consumed.
"""

from hnet_lm.ops.attention import KVState, attention
from hnet_lm.ops.causal_conv import causal_conv
from hnet_lm.ops.dispatch import use_backend
from hnet_lm.ops.ema_scan import ema_scan
from hnet_lm.ops.int8_linear import int8_linear
from hnet_lm.ops.mamba2_inner import mamba2_inner
from hnet_lm.ops.rms_norm import rms_norm
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.ops.ssd import ssd

__all__ = [
    "KVState",
    "attention",
    "causal_conv",
    "ema_scan",
    "int8_linear",
    "mamba2_inner",
    "rms_norm",
    "select_chunks",
    "ssd",
    "use_backend",
]
