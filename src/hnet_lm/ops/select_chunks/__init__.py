"""Keep the boundary positions of every sequence: the downsampler's selection."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.checks import require_rows
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def select_chunks(
    x: Float[Tensor, "t d"], is_boundary: Bool[Tensor, " t"], seqs: Sequences, *, backend: str | None = None
) -> tuple[Float[Tensor, "c d"], Sequences]:
    """The rows of x at boundaries, and the sequences they form; slots are kept.

    Raises ValueError for shapes that do not fit.
    """
    require_rows("select_chunks", seqs, x=x, is_boundary=is_boundary)
    if is_boundary.dtype != torch.bool or is_boundary.dim() != 1:
        raise ValueError(f"select_chunks: is_boundary must be a bool per position, got {is_boundary.dtype}")
    return _op.run(backend, x.device, x, is_boundary, seqs)
