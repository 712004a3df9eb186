"""Pre-norm residual layers, one after the other: x = x + layer(norm(x)), each a whole mixer or a gated MLP.

It is one op because in a single position of few sequences there is less to compute than to say to each layer: all of
them are better done in one go.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.ops.residual_layers._layers import AttentionLayer, Layer, Mamba2Layer, MLPLayer
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.sequences import Sequences
from hnet_lm.state import State

__all__ = ["AttentionLayer", "Layer", "MLPLayer", "Mamba2Layer", "residual_layers"]

_op = Op(__name__)


def residual_layers(
    x: Float[Tensor, "t d"],
    layers: Sequence[tuple[Layer, State | None]],
    seqs: Sequences,
    norm: PreNorm | None = None,
    *,
    backend: str | None = None,
) -> tuple[Float[Tensor, "t d"], list[State | None]]:
    """Of each layer with its state (None: nothing is carried; an MLP has none): the output, normed if there is a `norm`
    of it, and the states."""
    return _op.backend(backend, x.device)(x, layers, seqs, norm)
