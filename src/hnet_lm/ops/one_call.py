"""Layers as compiled calls, and many of them as one.

For a single position of each sequence nothing takes as long as reading the weights of the projections, and with a call
from Python for each step the interpreter would take longer still. So a whole mixer or MLP is a `job` here, of what lies
at addresses, and any number of them are run by one call.
"""

from array import array
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple, no_type_check

import numpy as np
import torch
from torch import Tensor

from hnet_lm.ops.atomics import call, load
from hnet_lm.ops.linear import LinearWeight
from hnet_lm.ops.linear.numba import is_ready, operand
from hnet_lm.ops.native import ONE, at, compiled, inlined, is_watched
from hnet_lm.ops.rms_norm import PreNorm
from hnet_lm.ops.rms_norm._loops import normed
from hnet_lm.ops.team import job, numbers, team
from hnet_lm.sequences import Sequences


class Call(NamedTuple):
    """A `job` of `(arguments, team)`, and its arguments. What they are addresses of must be kept until it has run."""

    job: int
    arguments: Sequence[int]


def is_step(
    seqs: Sequences, x: Tensor, pre_norm: PreNorm | None, ends: Iterable[LinearWeight], tensors: Iterable[Tensor]
) -> bool:
    """Whether each sequence has one position or none, nothing is differentiated, and all lies as loops need it.

    Both projections, the `ends`, may be rounded; the other tensors have to be of the type of x.
    """
    return seqs.max_length <= 1 and is_plain(x, pre_norm, ends, tensors)


def is_plain(x: Tensor, pre_norm: PreNorm | None, ends: Iterable[LinearWeight], tensors: Iterable[Tensor] = ()) -> bool:
    """The same, of any positions."""
    tensors = [x, *tensors] if pre_norm is None else [x, pre_norm.weight, *tensors]
    if is_watched(*ends, *tensors):
        return False
    dtype = x.dtype
    for tensor in tensors:
        if tensor.dtype != dtype or not tensor.is_contiguous():
            return False
    return all(is_ready(x, weight) for weight in ends)


def norm_and_ends(
    x: Tensor, out: Tensor, pre_norm: PreNorm | None, first: LinearWeight, last: LinearWeight
) -> tuple[int, ...]:
    """What every call has: x and where its result goes (to be added to, if that is x); the norm's weight (0: no norm)
    and eps; of either projection the product, the matrix and the scale."""
    norm = (0, 0) if pre_norm is None else (pre_norm.weight.data_ptr(), bits(pre_norm.eps))
    return (x.data_ptr(), out.data_ptr(), *norm, *operand(x, first), *operand(x, last))


def norm_call(x: Tensor, norm: PreNorm) -> Call | None:
    """The norm of x where it lies; None where loops cannot do it."""
    if not is_plain(x, norm, ()):
        return None
    return Call(norm_job(x.dtype), (*x.shape, x.data_ptr(), norm.weight.data_ptr(), bits(norm.eps)))


@cache
def norm_job(dtype: torch.dtype) -> int:
    """The norm; where it begins."""
    one = ONE[dtype]

    @job
    @no_type_check  # of Python: numba has types of its own
    def norm(arguments, team, _):
        num_positions, d, x, weight, eps = numbers(arguments, 5)
        rows = at(x, one, (num_positions, d))
        result = normed(rows, weight, from_bits(eps, one))
        for t in range(num_positions):
            for j in range(d):
                rows[t, j] = result[t, j]

    return norm


@cache
def bits(number: float) -> int:
    """A float among whole numbers, for `from_bits`."""
    return int(np.float64(number).view(np.int64))


@no_type_check
@inlined
def from_bits(bits, one):
    """The float, in the type of `one`."""
    return type(one)(np.int64(bits).view(np.float64))


@no_type_check
@inlined
def hand_over(result, x, out):
    """Write the result to an address; to that of x it is added."""
    rows = at(out, result.dtype.type(1), result.shape)
    for t in range(len(result)):
        for j in range(result.shape[1]):
            rows[t, j] = result[t, j] + rows[t, j] if x == out else result[t, j]


def run_calls(calls: Iterable[Call]) -> None:
    """One after the other; `team` shares the work of each."""
    program = array("q")
    for address, arguments in calls:
        program.append(address)
        program.append(len(arguments))
        program.extend(arguments)
    _run(team(), *program.buffer_info())


@no_type_check
@compiled
def _run(team, program, size):
    place, end = program, program + 8 * size
    while place < end:
        call(load(place), place + 16, team, 0)
        place += 16 + 8 * load(place + 8)
