"""Keep the boundary positions of every sequence: the downsampler's selection."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from hnet_lm.ops.checks import require_floating, require_plain, require_rows
from hnet_lm.ops.dispatch import Op
from hnet_lm.sequences import Sequences

_op = Op(__name__)


def select_chunks(
    x: Float[Tensor, "t d"], is_boundary: Bool[Tensor, " t"], seqs: Sequences, *, backend: str | None = None
) -> tuple[Float[Tensor, "c d"], Sequences]:
    """The rows of x at boundaries, and the sequences they form; slots are kept.

    Raises ValueError for shapes that do not fit.
    """
    require_floating("select_chunks", x=x)
    require_plain("select_chunks", "is_boundary", is_boundary)
    require_rows("select_chunks", seqs, x=x, is_boundary=is_boundary)
    if x.dim() != 2 or is_boundary.dtype != torch.bool or is_boundary.dim() != 1:
        given = f"{tuple(x.shape)}, and {is_boundary.dtype} of {tuple(is_boundary.shape)}"
        raise ValueError(f"select_chunks: x must be (t, d) and is_boundary a bool per position, got {given}")
    return _op.run(backend, x.device, x, is_boundary, seqs)
