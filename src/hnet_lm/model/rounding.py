"""Numbers of rows that repeat.

How many chunks a batch has differs from step to step. Libraries of matrix products build and keep a program for each
size they meet (oneDNN: up to a megabyte and several milliseconds each), so rows are rounded up to few sizes: the last
sequence goes on with copies of its last row. Models are causal, so no row before them changes; what comes of the copies
is dropped, and no gradient flows from them.

Only without a state, which the copies would enter, and only on a CPU: libraries for GPUs build nothing for a size, and
the copies would cost a wait for the device. Compilers have shapes of their own, and see none of this.
"""

import torch
from jaxtyping import Shaped
from torch import Tensor

from hnet_lm.model.dynamic_chunking import Routing
from hnet_lm.ops.select_chunks import select_chunks
from hnet_lm.sequences import Sequences

FEWEST = 128
"""Fewer rows than this are left as they are."""
SIZES_PER_OCTAVE = 16
"""Sizes between a number of rows and its double: at most 6 % are copies, 3 % on average."""


def num_copies(x: Shaped[Tensor, "t *d"]) -> int:
    """How many rows to add."""
    num_rows = len(x)
    if num_rows < FEWEST or x.device.type != "cpu" or torch.compiler.is_compiling():
        return 0
    return -num_rows % ((1 << num_rows.bit_length()) // (2 * SIZES_PER_OCTAVE))


def with_copies(x: Shaped[Tensor, "t *d"], num: int) -> Shaped[Tensor, "t_and_copies *d"]:
    """The rows, and the last one so many times more."""
    return torch.cat([x, x[-1:].detach().expand(num, *x.shape[1:])]) if num else x


def without_copies(routings: tuple[Routing, ...], seqs: Sequences) -> tuple[Routing, ...]:
    """The decisions about the rows that were there: those of `seqs`, of their chunks, and of the chunks of these."""
    real = []
    for routing in routings:
        num = seqs.num_positions
        chunks = routing.chunks
        if chunks is not None:
            chunks = chunks[: int(routing.is_boundary[:num].sum())]
        real.append(routing.over_positions(lambda rows, num=num: rows[:num], seqs=seqs, chunks=chunks))
        if len(real) < len(routings):
            _, seqs = select_chunks(real[-1].boundary_prob.detach().unsqueeze(1), real[-1].is_boundary, seqs)
    return tuple(real)
