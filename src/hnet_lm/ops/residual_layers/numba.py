"""One position a sequence: all layers in one compiled call (`one_call`), on their states; longer spans by the ops."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hnet_lm.ops.dispatch import is_chosen
from hnet_lm.ops.gated_mlp.numba import mlp_call
from hnet_lm.ops.mamba2.numba import mamba2_call
from hnet_lm.ops.one_call import Call, norm_call, run_calls
from hnet_lm.ops.residual_layers._composed import composed
from hnet_lm.ops.residual_layers._layers import AttentionLayer, Layer, Mamba2Layer
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.ops.self_attention.numba import attention_call
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

PARTS = ("mamba2", "self_attention", "gated_mlp", "rms_norm")


def residual_layers(
    x: Tensor, layers: Sequence[tuple[Layer, Any]], seqs: Sequences, norm: PreNorm | None
) -> tuple[Tensor, list[State | None]]:
    if seqs.max_length <= 1 and len(x) and not is_chosen(*PARTS):
        out = x.clone()
        calls = [_call(out, layer, seqs, state) for layer, state in layers]
        if norm is not None:
            calls.append(norm_call(out, norm))
        ready = [call for call in calls if call is not None]
        if len(ready) == len(calls):
            run_calls(ready)
            return out, [state for _, state in layers]
    return composed(None, x, layers, seqs, norm)


def _call(x: Tensor, layer: Layer, seqs: Sequences, state: Any) -> Call | None:
    """What adds the layer to x; None where it cannot be done so."""
    if isinstance(layer, Mamba2Layer):
        return mamba2_call(x, x, layer.weights, layer.eps, seqs, state, layer.norm)
    if isinstance(layer, AttentionLayer):
        return attention_call(x, x, layer.weights, layer.shape, seqs, state, layer.norm)
    return mlp_call(x, x, layer.fc1, layer.fc2, layer.norm)
