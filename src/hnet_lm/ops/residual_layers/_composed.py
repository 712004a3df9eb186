"""The layers' own ops, one after the other."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from hnet_lm.ops.residual_layers._layers import Layer
from hnet_lm.ops.rms_norm import PreNorm, rms_norm
from hnet_lm.sequences import Sequences
from hnet_lm.state import State


def composed(
    backend: str | None, x: Tensor, layers: Sequence[tuple[Layer, Any]], seqs: Sequences, norm: PreNorm | None
) -> tuple[Tensor, list[State | None]]:
    final: list[State | None] = []
    for layer, state in layers:
        y, carried = layer.output(x, seqs, state, backend)
        x = x + y
        final.append(carried)
    return x if norm is None else rms_norm(x, norm.weight, None, norm.eps, backend=backend), final
