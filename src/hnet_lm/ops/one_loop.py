"""Where all of a mixer or an MLP is one compiled loop, and what that takes of its norm and its two projections.

For a single position of few sequences nothing takes as long as reading the weights of the projections, and with a call
for each step the interpreter would take longer still. Where projections are large, or positions many, each is a product
of its own, on several threads.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.linear.numba import operand
from hnet_lm.ops.native import ONE, is_watched
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.sequences import Sequences


def is_step(
    seqs: Sequences, x: Tensor, pre_norm: PreNorm | None, ends: Iterable[LinearWeight], tensors: Iterable[Tensor]
) -> bool:
    """Whether each sequence has one position or none, nothing is differentiated, and all lies as loops need it.

    Both projections, the `ends`, may be rounded; the other tensors have to be of the type of x.
    """
    tensors = [x, *tensors] if pre_norm is None else [x, pre_norm.weight, *tensors]
    if seqs.max_length > 1 or x.dtype.itemsize < torch.float32.itemsize or is_watched(*ends, *tensors):
        return False
    dtype = x.dtype
    return all(tensor.dtype == dtype and tensor.is_contiguous() for tensor in tensors)


def operands(x: Tensor, pre_norm: PreNorm | None, first: LinearWeight, last: LinearWeight) -> tuple[Any, ...] | None:
    """Address of the norm's weight (0: no norm) and eps; a number of its type, matrix and scale of either projection.

    None where the projections are better done apart.
    """
    before, after = operand(x, first), operand(x, last)
    if before is None or after is None or not before.is_small or not after.is_small:
        return None
    number = type(ONE[x.dtype])
    norm = (0, number(0)) if pre_norm is None else (pre_norm.weight.data_ptr(), number(pre_norm.eps))
    return (*norm, *before[:3], *after[:3])
