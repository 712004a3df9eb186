"""How compiled loops are made and run: numba for the code, one range of independent work a thread.

A backend called `numba` is written as plain loops over contiguous arrays; numba compiles them at first use for each
type, and keeps the result on disk. Loops run without the interpreter's lock. Threads are torch's number; work is split
only where heads or channels are independent, so results do not depend on it but for the order of sums over heads.

What is kept is made anew when the loop's own file changes. Who changes a loop or a constant that loops of other files
use deletes what is kept: the `*.nbi` and `*.nbc` in `__pycache__`.
"""

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, no_type_check

import numba
import numpy as np
import torch
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numpy.typing import NDArray
from torch import Tensor

MIN_WORK_A_THREAD = 1 << 19
"""Multiplications below which waking another thread costs more than it saves (tens of microseconds)."""

CACHE_LINE = 64
"""Bytes; also those of the widest vectors."""

WIDEST = 8192
"""Numbers of a row for which loops have room on their stack."""

MATHS = {"error_model": "numpy", "fastmath": {"contract", "reassoc", "nsz"}}
"""Sums may be reordered, which vectors need; infinities and NaN keep their meaning."""

compiled: Callable[[Callable[..., Any]], Any] = numba.njit(nogil=True, cache=True, **MATHS)
inlined: Callable[[Callable[..., Any]], Any] = numba.njit(inline="always", **MATHS)
"""Part of the loop that calls it, as if it were written there."""

ONE: Mapping[torch.dtype, Any] = MappingProxyType(
    {
        torch.float32: np.float32(1),
        torch.float64: np.float64(1),
        torch.bfloat16: np.uint16(1),  # which numba does not know: see `widened`
        torch.int8: np.int8(1),
    }
)
"""A number of each type: what stands at an address is of the type of a number that is passed beside it."""


@intrinsic
def _pointer(_: Any, address: Any, offset: Any, one: Any) -> Any:
    def cast(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        start = builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))
        return builder.gep(start, [arguments[1]])

    return types.CPointer(one)(types.intp, types.intp, one), cast


@no_type_check  # of Python: numba has types of its own
@inlined
def at(address: int, one: Any, shape: tuple[int, ...]) -> NDArray[Any]:
    """The array without gaps at an address, within a loop.

    Where a call does little, as in decoding, making arrays of its tensors would take most of its time: 3 us each,
    against 0.1 for `Tensor.data_ptr`. (And FSDP takes the memory of a weight away, which it cannot do where an array
    lies on it.)
    """
    return numba.carray(_pointer(address, 0, one), shape)


@intrinsic(prefer_literal=True)
def _on_stack(_: Any, one: Any, num_rows: Any, num_lanes: Any) -> Any:
    def reserve(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        number = context.get_value_type(one)
        with builder.goto_entry_block():
            memory = builder.alloca(ir.ArrayType(number, num_rows.literal_value * num_lanes.literal_value))
        memory.align = CACHE_LINE
        return builder.bitcast(memory, number.as_pointer())

    return types.CPointer(one)(one, num_rows, num_lanes), reserve


@no_type_check
@inlined
def scratch(one: Any, num_rows: int, num_lanes: int) -> NDArray[Any]:
    """An array on the loop's own stack, of undefined numbers of the type of `one`; both sizes are constants.

    The compiler knows that nothing else lies there, so it need not expect a write to change what it has read, and keeps
    in registers what fits. Rows begin where a vector does. A loop over `np.empty` took two to four times as long.
    """
    return numba.carray(_on_stack(one, num_rows, num_lanes), (num_rows, num_lanes))


@no_type_check
@inlined
def place(array: NDArray[Any]) -> int:
    """Where an argument of a loop lies. An array made in the loop itself could be gone after this, its last use."""
    return np.int64(array.ctypes.data)


@intrinsic
def _fetch(_: Any, address: Any) -> Any:
    def ask(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [byte], kind)
        to_read, keep_long, data = number(0), number(3), number(1)
        builder.call(function, [builder.inttoptr(arguments[0], byte), to_read, keep_long, data])
        return context.get_dummy_value()

    return types.none(types.intp), ask


@no_type_check
@inlined
def fetch(address: int, num_bytes: int) -> None:
    """Ask for memory that is needed soon, so that it comes while something else is computed."""
    for start in range(address, address + num_bytes, CACHE_LINE):
        _fetch(start)


@no_type_check
@inlined
def fill(matrix: NDArray[Any], number: Any) -> None:
    """Write a number everywhere."""
    for i in range(matrix.shape[0]):
        for j in range(matrix.shape[1]):
            matrix[i, j] = number


def in_rows(x: Tensor) -> Tensor:
    """A matrix as loops can read it, of a type they know and each row without gaps: itself, or a copy."""
    if x.dtype not in ONE:
        x = x.float()
    return x if x.stride(-1) == 1 else x.contiguous()


def rows(x: Tensor) -> tuple[Any, int, int]:
    """A matrix for `part`, whose rows may be parts of wider ones. It must be kept until the loop has ended."""
    return ONE[x.dtype], x.data_ptr(), x.stride(0)


@no_type_check
@inlined
def part(rows: tuple[Any, int, int], row: int, column: int, length: int) -> NDArray[Any]:
    """Of a matrix that is passed as `rows`, some numbers side by side.

    An index that begins with a sum, as in `x[t, column + j]`, might be negative and mean the end, as far as the
    compiler knows; it then reads each number by itself.
    """
    one, address, distance = rows
    return numba.carray(_pointer(address, row * distance + column, one), (length,))


def addresses(*tensors: Tensor | None) -> tuple[int, ...]:
    """Where tensors without gaps lie, for `at`; None is 0. They must be kept until the loop has ended."""
    return tuple([0 if x is None else x.data_ptr() for x in tensors])


def is_watched(*inputs: Any) -> bool:
    """Whether autograd or autocast watches one of these tensors, so that torch has to see each operation.

    What is no tensor, as integer weights with their scale, has no gradient.
    """
    if torch.is_autocast_enabled("cpu"):
        return True
    return torch.is_grad_enabled() and any(isinstance(part, Tensor) and part.requires_grad for part in inputs)


def array(x: Tensor) -> NDArray[Any]:
    """The same memory as an array without gaps (a copy where there are some)."""
    if x.requires_grad:
        x = x.detach()
    return x.contiguous().numpy()


def ranges(num_items: int, work_an_item: int) -> list[tuple[int, int]]:
    """One range of items a thread; a single one where the work is small."""
    work = num_items * work_an_item
    if work < 2 * MIN_WORK_A_THREAD:
        return [(0, num_items)]
    num_threads = max(1, min(num_items, torch.get_num_threads(), work // MIN_WORK_A_THREAD))
    ends = [num_items * i // num_threads for i in range(num_threads + 1)]
    return list(pairwise(ends))


def run(function: Callable[..., None], parts: list[tuple[int, int]], *arguments: Any) -> None:
    """`function(worker, first, end, *arguments)` for every range, side by side; returns when all are done."""
    if len(parts) == 1:
        return function(0, *parts[0], *arguments)
    others = [
        _pool(len(parts) - 1).submit(function, worker, *part, *arguments)
        for worker, part in enumerate(parts[1:], start=1)
    ]
    function(0, *parts[0], *arguments)
    for other in others:
        other.result()


@cache
def _pool(num_threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(num_threads, thread_name_prefix="hnet-lm-ops")


if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not come along
