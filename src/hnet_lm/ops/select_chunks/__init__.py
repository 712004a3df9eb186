"""Keep the boundary positions of every sequence: the downsampler's selection."""

from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def select_chunks(
    x: Float[Tensor, "t d"], is_boundary: Bool[Tensor, " t"], seqs: Sequences, *, backend: str | None = None
) -> tuple[Float[Tensor, "c d"], Sequences]:
    """The rows of x at boundaries, and the sequences they form; slots are kept."""
    return _op.backend(backend, x.device)(x, is_boundary, seqs)
